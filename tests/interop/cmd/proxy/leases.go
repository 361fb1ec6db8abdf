// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"meridio-proxy/tests/interop/internal/meridio/ipam"
	"meridio-proxy/tests/interop/internal/meridio/nsp"
)

// leases are the addresses of the links: `<id>-src` and `<id>-dst` for each link and family, released some time after
// the link has ended.
type leases struct {
	cl      ipam.IpamClient
	subnets []*ipam.Subnet
	delay   time.Duration

	mu      sync.Mutex
	pending map[string]func() // id -> cancels the release
}

func newLeases(client ipam.IpamClient, c *config) *leases {
	l := &leases{cl: client, delay: c.releaseDelay, pending: map[string]func(){}}
	conduit := &nsp.Conduit{Name: c.conduit, Trench: &nsp.Trench{Name: c.trench}}
	if c.v4 {
		l.subnets = append(l.subnets, &ipam.Subnet{Conduit: conduit, Node: c.host, IpFamily: ipam.IPFamily_IPV4})
	}
	if c.v6 {
		l.subnets = append(l.subnets, &ipam.Subnet{Conduit: conduit, Node: c.host, IpFamily: ipam.IPFamily_IPV6})
	}
	return l
}

// allocate asks for one address of each family.
func (l *leases) allocate(ctx context.Context, child string) (out []string, err error) {
	for _, s := range l.subnets {
		p, err := l.cl.Allocate(ctx, &ipam.Child{Name: child, Subnet: s})
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s/%d", p.GetAddress(), p.GetPrefixLength()))
	}
	return out, nil
}

func (l *leases) bridge(ctx context.Context) ([]string, error) { return l.allocate(ctx, "bridge") }

func (l *leases) renewBridge(ctx context.Context, every time.Duration) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(every):
			if _, err := l.bridge(ctx); err != nil {
				logrus.Errorf("renew bridge addresses: %v", err)
			}
		}
	}
}

func (l *leases) get(ctx context.Context, id string) (src, dst []string, err error) {
	l.mu.Lock()
	if cancel, ok := l.pending[id]; ok {
		cancel()
		delete(l.pending, id)
	}
	l.mu.Unlock()
	if src, err = l.allocate(ctx, id+"-src"); err != nil {
		return nil, nil, err
	}
	dst, err = l.allocate(ctx, id+"-dst")
	return src, dst, err
}

func (l *leases) release(ctx context.Context, id string) error {
	for _, s := range l.subnets {
		for _, end := range []string{"-src", "-dst"} {
			if _, err := l.cl.Release(ctx, &ipam.Child{Name: id + end, Subnet: s}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *leases) releaseLater(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.pending[id]; ok {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.pending[id] = cancel
	go func() {
		for wait := l.delay; ; wait = 2 * time.Second {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			try, stop := context.WithTimeout(ctx, 10*time.Second)
			err := l.release(try, id)
			stop()
			if err == nil {
				break
			}
			logrus.Errorf("release %s: %v", id, err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if ctx.Err() == nil {
			delete(l.pending, id)
		}
	}()
}

// flush releases the waiting addresses at once.
func (l *leases) flush(limit time.Duration) {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	var wg sync.WaitGroup
	for id, cancel := range l.pending {
		cancel()
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := l.release(ctx, id); err != nil {
				logrus.Errorf("release %s: %v", id, err)
			}
		}()
	}
	wg.Wait()
}
