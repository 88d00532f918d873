// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/authority"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/afxdp"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/service"
	"github.com/xdp-roam/xdp-roam/userspace/web"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// edge is the daemon: the data plane, the server behind it, and the services
// behind that. What start has made, stop removes, wherever start has got to.
type edge struct {
	env     *env
	conf    config.Config
	log     *slog.Logger
	started time.Time

	key       handshake.PrivateKey
	previous  []handshake.PrivateKey // at most one
	addresses []netip.AddrPort
	authority *authority.List // nil: anyone
	backends  map[uint16]*service.Service

	instance *loader.Instance // nil in config.ModeNone
	server   *server.Server
	queues   *afxdp.Keeper // nil like instance
	control  *control.Server
	web      *web.Server // nil without config.Metrics
	token    string      // of web
	drain    *drain
	events   control.Events
	hangup   <-chan os.Signal // says: read the files again

	// background is every goroutine but that of control, which goes on until all the
	// rest is gone; end ends those that the server's end does not.
	background, answering sync.WaitGroup
	end                   context.CancelFunc
}

// newEdge reads every file that the configuration names, and changes nothing.
func newEdge(e *env, conf config.Config) (*edge, error) {
	d := &edge{env: e, conf: conf, log: e.logger(), started: e.now(), backends: make(map[uint16]*service.Service), drain: newDrain()}
	var err error
	if d.key, err = readKeyFile(conf.KeyFile); err != nil {
		return nil, err
	}
	if d.previous, err = readPreviousKey(conf, d.key); err != nil {
		return nil, err
	}
	if d.addresses, err = conf.ServerAddresses(); err != nil {
		return nil, err
	}
	if conf.AuthorizedKeys != "" {
		if d.authority, err = authority.Open(conf.AuthorizedKeys, conf.Services); err != nil {
			return nil, err
		}
	}
	if d.token, err = conf.Metrics.ReadToken(); err != nil {
		return nil, err
	}
	for _, s := range conf.Services {
		if d.backends[s.Port], err = service.New(s.Backend, s.Limits(), d.log.With("service", s.Port)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// start brings everything up. After an error the caller still calls stop.
func (d *edge) start() error {
	address, err := d.conf.Address()
	if err != nil {
		return err
	}
	if err := loader.CheckPort(address); err != nil {
		return err
	}
	set, err := d.startDataPlane()
	if err != nil {
		return err
	}
	if d.control, err = control.Listen(d.env.controlPath(), d.localHandler()); err != nil {
		return d.controlFault(err)
	}
	if err := d.listenWeb(); err != nil {
		return err
	}
	if err := d.startServer(address, set); err != nil {
		return err
	}
	if d.instance != nil {
		if err := d.startQueues(); err != nil {
			return err
		}
		if err := d.instance.Listen(d.server.Addr(), 0); err != nil {
			return err
		}
	}
	d.startBackground()
	return nil
}

// startDataPlane loads and attaches; nil maps where no data plane is wanted.
func (d *edge) startDataPlane() (*maps.Set, error) {
	if d.conf.Mode == config.ModeNone {
		return nil, nil
	}
	options := d.env.loaderOptions()
	options.Slots, options.Sockets = d.conf.TableSlots, true
	instance, err := loader.Open(options)
	if err != nil {
		return nil, unprivilegedHint(err)
	}
	d.instance = instance
	for _, warning := range instance.Warnings {
		d.log.Warn(warning)
	}
	if instance.Adopted {
		d.log.Info("adopted the pinned maps of the instance", "instance", d.conf.Instance)
	}
	mode, err := loader.ParseMode(string(d.conf.Mode))
	if err != nil {
		return nil, err
	}
	attachments, err := instance.Attach(d.conf.Interfaces, mode)
	if err != nil {
		return nil, err
	}
	for _, a := range attachments {
		if a.Warning != "" {
			d.log.Warn(a.Warning)
		}
		if a.Mode == loader.ModeSocket {
			d.log.Warn("an interface goes without XDP", "interface", a.Interface, "reason", a.Reason)
		}
	}
	return instance.Maps, nil
}

func (d *edge) startServer(address netip.AddrPort, set *maps.Set) error {
	state, err := handshake.LoadState(d.conf.StateDir)
	if err != nil {
		return err
	}
	c := server.Config{
		Listen: address, Static: d.key, Previous: d.previous, Addresses: d.addresses, TableSlots: d.conf.TableSlots, Maps: set, Log: d.log, Events: d.recordServer,
		State: state, SaveState: func(was, now handshake.State) error { return handshake.SaveState(d.conf.StateDir, was, now) },
		HasService: func(port uint16) bool { return d.backends[port] != nil },
		NoGRO:      d.conf.Mode == config.ModeGeneric,
	}
	if d.authority != nil {
		c.Authorize, c.Precomputed = d.authority.Authorize, d.authority.Precomputed
	}
	if err := c.Cookie.UnmarshalText([]byte(d.conf.Cookie)); err != nil {
		return err
	}
	if d.server, err = server.Listen(c); err != nil {
		return fmt.Errorf("cannot listen on %v: %w", address, err)
	}
	return nil
}

// startBackground runs all that goes on until stop.
func (d *edge) startBackground() {
	ctx, cancel := context.WithCancel(context.Background())
	d.end = cancel
	d.background.Go(func() { d.acceptAll(ctx) })
	d.startAuthority(ctx)
	d.answering.Go(func() {
		if err := d.control.Serve(); err != nil {
			d.log.Error("the control socket failed", "error", err)
		}
	})
	d.serveWeb()
	if d.instance == nil {
		return
	}
	d.background.Go(func() { d.queues.Run(ctx) })
	d.background.Go(func() { d.followRoutes(ctx) })
	d.background.Go(func() {
		if err := d.instance.Watch(ctx, d.attachmentChanged); err != nil {
			d.log.Error("changes of links and addresses are not followed any more", "error", err)
		}
	})
	d.recordPackets(ctx)
}

// acceptAll gives each session to the backend of its service.
func (d *edge) acceptAll(ctx context.Context) {
	for {
		s, err := d.server.Accept(ctx)
		if err != nil {
			return
		}
		backend := d.backends[s.Service()]
		if backend == nil { // HasService has refused it
			_ = s.Close(wire.CloseServiceGone, "no such service")
			continue
		}
		d.background.Go(func() { _ = backend.Serve(ctx, s) }) // it tells the log of a failure itself
	}
}

// stop tells every client and leaves nothing behind.
func (d *edge) stop() error {
	var errs []error
	if d.server != nil {
		errs = append(errs, d.server.Close()) // says CLOSE 5 to all, which ends their backends
	}
	if d.control != nil {
		d.control.Stop()
	}
	if d.web != nil {
		errs = append(errs, d.web.Close())
	}
	if d.end != nil {
		d.end()
	}
	d.drain.stop()
	d.background.Wait()
	if d.queues != nil {
		errs = append(errs, d.queues.Close())
	}
	if d.instance != nil {
		errs = append(errs, d.instance.Close())
	}
	if d.control != nil {
		// Last: whoever waits for our end, as `drain` does, may start the next one then.
		errs = append(errs, d.control.Close())
	}
	d.answering.Wait()
	return errors.Join(errs...)
}

// ready is what the person waits for: where, how, and why so.
func (d *edge) ready() string {
	s := (*source)(d).Status()
	var services []string
	for _, one := range s.Services {
		services = append(services, fmt.Sprintf("%d=%s", one.Port, one.Backend))
	}
	return fmt.Sprintf("ready: listening on %s, mode %s because %s; services %s; public key %s",
		s.Listen, modeText(s), s.ModeReason, strings.Join(services, " "), s.PublicKey)
}

// modeText names the mode and where it is in force: "xdp (native) on eth0".
func modeText(s control.Status) string {
	var names []string
	for _, i := range s.Interfaces {
		if i.Mode != "" {
			names = append(names, i.Name)
		}
	}
	text := s.Mode
	if s.Mode == string(config.ModeXDP) {
		text += " (native)"
	}
	if len(names) > 0 {
		text += " on " + strings.Join(names, ", ")
	}
	return text
}

func (d *edge) controlFault(err error) error {
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EROFS) {
		return &fault{err: err, fix: "use --control PATH to choose a place that this user may write to"}
	}
	return err
}

// unprivilegedHint adds what can be done without the missing privilege.
func unprivilegedHint(err error) error {
	var known *loader.Error
	if errors.As(err, &known) && errors.Is(err, loader.ErrPermission) {
		return &fault{err: err, fix: known.Fix() + "\nor use --mode none: no BPF and no privileges; sessions still roam, but nothing is filtered before it reaches the daemon"}
	}
	return err
}
