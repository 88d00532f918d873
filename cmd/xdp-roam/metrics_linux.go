// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/metrics"
	"github.com/xdp-roam/xdp-roam/userspace/web"
)

// localHandler is what the control socket serves.
func (d *edge) localHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/", control.NewHandler((*source)(d)))
	mux.Handle("GET /metrics", d.metricsHandler())
	return mux
}

func (d *edge) metricsHandler() http.Handler { return metrics.NewHandler((*source)(d).sample, d.log) }

// listenWeb opens the TCP address that the configuration names, if it does.
func (d *edge) listenWeb() error {
	address, err := d.conf.Metrics.Address()
	if err != nil || !address.IsValid() {
		return err
	}
	d.web, err = web.Listen(context.Background(), web.Config{
		Listen: address, Token: d.token, Page: d.conf.Metrics.Page, Log: d.log,
		Metrics: d.metricsHandler(), API: control.NewHandler((*source)(d)),
	})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &fault{what: "cannot serve metrics", err: err, fix: fmt.Sprintf("choose another port by metrics.listen or --metrics; `ss -ltnp 'sport = :%d'` shows who uses this one", address.Port())}
	case err != nil:
		return &fault{what: "cannot serve metrics", err: err, fix: "set metrics.listen or --metrics to an address of this host"}
	}
	return nil
}

func (d *edge) serveWeb() {
	if d.web == nil {
		return
	}
	d.log.Info("showing metrics", "url", fmt.Sprintf("http://%v/metrics", d.web.Addr()), "page", d.conf.Metrics.Page, "token", d.token != "")
	d.background.Go(func() {
		if err := d.web.Serve(); err != nil {
			d.log.Error("metrics are not shown any more", "error", err)
		}
	})
}

// sample is one look at the edge for Prometheus.
func (d *source) sample() metrics.Sample {
	status := d.Status()
	s := metrics.Sample{Edge: status.Instance, Version: status.Version, Mode: status.Mode, Draining: status.Draining, Server: d.server.Stats()}
	if d.instance != nil {
		counters := d.instance.Maps.Counters.Read()
		s.DataPlane = &counters
	}
	for _, i := range status.Interfaces {
		one := metrics.Interface{Name: i.Name, Mode: i.Mode, Degraded: i.State == "degraded"}
		if i.AFXDP != nil {
			one.Queues, one.Sockets = i.AFXDP.Queues, i.AFXDP.Bound
		}
		s.Interfaces = append(s.Interfaces, one)
	}
	for _, one := range d.conf.Services {
		s.Services = append(s.Services, metrics.Service{Port: one.Port, Use: d.backends[one.Port].Use()})
	}
	if list := status.AuthorizedKeys; list != nil {
		s.Clients = &metrics.Clients{Number: list.Clients, Stale: list.Error != ""}
	}
	return s
}
