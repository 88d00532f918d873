-- SPDX-License-Identifier: Apache-2.0
-- A Wireshark dissector of ROAM/1 (docs/PROTOCOL.md). Put it into Wireshark's folder of
-- personal Lua plugins, or: wireshark -X lua_script:roam.lua
-- What the frames say is encrypted; all that is not has a field to filter by.

local roam = Proto("roam", "ROAM/1 Mobility Protocol")

local types = { [0x08] = "INIT", [0x09] = "RETRY", [0x0a] = "RESP", [0x0b] = "VERSIONS", [0x0c] = "DATA", [0x0f] = "GREASE" }

local f = {
	type = ProtoField.uint8("roam.type", "Type", base.HEX, types),
	reserved = ProtoField.uint24("roam.reserved", "Reserved", base.HEX),
	version = ProtoField.uint32("roam.version", "Version"),
	handshake = ProtoField.bytes("roam.handshake_id", "Handshake id"),
	cookie = ProtoField.bytes("roam.cookie", "Cookie"),
	mac1 = ProtoField.bytes("roam.mac1", "mac1"),
	ephemeral = ProtoField.bytes("roam.noise_e", "Noise e"),
	static = ProtoField.bytes("roam.noise_s", "Noise s, encrypted"),
	count = ProtoField.uint8("roam.versions", "Versions"),
	offered = ProtoField.uint32("roam.offered_version", "Offered version"),
	counter = ProtoField.uint64("roam.counter", "Counter"),
	id = ProtoField.bytes("roam.id", "Id"),
	encrypted = ProtoField.bytes("roam.encrypted", "Encrypted frames"),
	tag = ProtoField.bytes("roam.tag", "Tag"),
}
roam.fields = f

local malformed = ProtoExpert.new("roam.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
roam.experts = { malformed }

local init_length = 1200

-- lengths are those that the protocol demands: at least, and at most.
local lengths = {
	[0x08] = { init_length, init_length }, [0x09] = { 40, 40 }, [0x0a] = { 76, 1200 }, [0x0b] = { 25, 1200 }, [0x0c] = { 41, 8972 },
}

-- Adds bytes at to at+length, as far as they were captured.
local function add(tree, field, buffer, at, length)
	if at + length <= buffer:len() then tree:add(field, buffer(at, length)) end
end

local function payload(tree, buffer, at)
	local rest = buffer:reported_len() - at - 16
	if rest <= 0 then return end
	tree:add(f.encrypted, buffer(at, math.min(rest, math.max(buffer:len() - at, 0))))
	add(tree, f.tag, buffer, at + rest, 16)
end

local function handshake(tree, buffer)
	add(tree, f.reserved, buffer, 1, 3)
	add(tree, f.version, buffer, 4, 4)
	add(tree, f.handshake, buffer, 8, 16)
end

local parts = {}

parts[0x08] = function(tree, buffer)
	handshake(tree, buffer)
	add(tree, f.cookie, buffer, 24, 16)
	add(tree, f.mac1, buffer, 40, 8)
	add(tree, f.ephemeral, buffer, 48, 32)
	add(tree, f.static, buffer, 80, 48)
	if buffer:len() > 128 then payload(tree, buffer, 128) end
end

parts[0x09] = function(tree, buffer)
	handshake(tree, buffer)
	add(tree, f.cookie, buffer, 24, 16)
end

parts[0x0a] = function(tree, buffer)
	handshake(tree, buffer)
	add(tree, f.ephemeral, buffer, 24, 32)
	if buffer:len() > 56 then payload(tree, buffer, 56) end
end

parts[0x0b] = function(tree, buffer)
	handshake(tree, buffer)
	if buffer:len() <= 24 then return end
	local n = buffer(24, 1):uint()
	tree:add(f.count, buffer(24, 1))
	for i = 0, n - 1 do add(tree, f.offered, buffer, 25 + 4 * i, 4) end
end

parts[0x0c] = function(tree, buffer, pinfo)
	if buffer:len() < 24 then return end
	local counter = UInt64(buffer(4, 4):uint(), buffer(1, 3):uint())
	tree:add(f.counter, buffer(1, 7), counter)
	tree:add(f.id, buffer(8, 16))
	if buffer:len() > 24 then payload(tree, buffer, 24) end
	pinfo.cols.info:append(string.format(" id %s… counter %s", buffer(8, 6):bytes():tohex(true), tostring(counter)))
end

function roam.dissector(buffer, pinfo, tree)
	if buffer:len() == 0 then return 0 end
	local kind = buffer(0, 1):uint()
	local name = types[kind]
	if not name then return 0 end
	pinfo.cols.protocol = "ROAM"
	pinfo.cols.info = name
	local subtree = tree:add(roam, buffer(), "ROAM/1 " .. name)
	subtree:add(f.type, buffer(0, 1))
	local bounds = lengths[kind]
	if bounds and (buffer:reported_len() < bounds[1] or buffer:reported_len() > bounds[2]) then
		subtree:add_proto_expert_info(malformed, string.format("%s of %d bytes: %d to %d", name, buffer:reported_len(), bounds[1], bounds[2]))
	end
	if parts[kind] then parts[kind](subtree, buffer, pinfo) end
	return buffer:len()
end

-- Elsewhere than on its port, only what can hardly be anything else is taken for ROAM:
-- the handshake's packets. A conversation that began with one goes on as ROAM.
local function heuristic(buffer, pinfo, tree)
	if buffer:len() < 24 then return false end
	local kind, length = buffer(0, 1):uint(), buffer:reported_len()
	local bounds = lengths[kind]
	if not bounds or kind == 0x0c or length < bounds[1] or length > bounds[2] or buffer(1, 3):uint() ~= 0 then return false end
	if buffer(4, 4):uint() ~= (kind == 0x0b and 0 or 1) then return false end
	pinfo.conversation = roam
	roam.dissector(buffer, pinfo, tree)
	return true
end

DissectorTable.get("udp.port"):add(7626, roam)
roam:register_heuristic("udp", heuristic)
