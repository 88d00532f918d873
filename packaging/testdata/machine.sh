#!/bin/sh
# machine.sh DIR: becomes a machine: the host's files with a layer on top that goes with it, and
# systemd as process 1. Runs in fresh mount, process, network and control group namespaces.
set -eu
mount --make-rprivate /
mount -t tmpfs layer "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay root -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mount -t tmpfs run run
mount -t tmpfs tmp tmp
mount --rbind /dev dev
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	mount -t cgroup2 cgroup sys/fs/cgroup
else
	mount -t tmpfs cgroup sys/fs/cgroup
	mkdir sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
# Nothing but what the test starts: no disks, no logins, no journal.
for target in sysinit basic network-online machine; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" > "etc/systemd/system/$target.target"
done
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/usr/lib/systemd/systemd --system --unit=machine.target --log-target=null --show-status=0
