// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const table = 1

// port is a link to an LB (its addresses are next hops) or, without next hops, to a target.
type port struct{ nextHops []string }

// datapath is bridge0 with its ports, the default routes of table 1 and the rules of the VIPs.
type datapath struct {
	bridge netlink.Link

	mu      sync.Mutex
	waiting map[string]port // by interface name: not there yet
	ports   map[int]port
	vips    map[string]bool // nil before the first list
}

func newDatapath(ctx context.Context) (*datapath, error) {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac)
	mac[0] = mac[0]&^1 | 2
	la := netlink.NewLinkAttrs()
	la.Name, la.HardwareAddr = "bridge0", mac
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("bridge0: %w", err)
	}
	b, err := netlink.LinkByName(la.Name)
	if err != nil {
		return nil, fmt.Errorf("bridge0: %w", err)
	}
	if err = netlink.LinkSetUp(b); err != nil {
		return nil, fmt.Errorf("bridge0: %w", err)
	}
	k := &datapath{bridge: b, waiting: map[string]port{}, ports: map[int]port{}}
	ch := make(chan netlink.LinkUpdate, 64)
	if err = netlink.LinkSubscribe(ch, ctx.Done()); err != nil {
		return nil, fmt.Errorf("link events: %w", err)
	}
	go func() {
		for e := range ch {
			k.event(e)
		}
	}()
	return k, nil
}

func (k *datapath) setBridgeAddrs(addrs []string) error {
	for _, a := range addrs {
		n, err := netlink.ParseAddr(a)
		if err == nil {
			if n.IP.To4() == nil {
				n.Flags = unix.IFA_F_NODAD
			}
			err = netlink.AddrReplace(k.bridge, n)
		}
		if err != nil {
			return fmt.Errorf("bridge0 %s: %w", a, err)
		}
	}
	return nil
}

func (k *datapath) event(e netlink.LinkUpdate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := e.Attrs()
	switch {
	case e.Family != unix.AF_UNSPEC: // a port that leaves its bridge, not a link that ends
	case e.Header.Type == unix.RTM_DELLINK:
		k.drop(a.Index)
	case a.Flags&net.FlagUp != 0:
		if p, ok := k.waiting[a.Name]; ok {
			delete(k.waiting, a.Name)
			k.plug(e.Link, p)
		}
	}
}

// add makes the interface a port of the bridge, now or when it appears.
func (k *datapath) add(name string, p port) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l, err := netlink.LinkByName(name); err == nil && l.Attrs().Flags&net.FlagUp != 0 {
		k.plug(l, p)
		return
	}
	k.waiting[name] = p
}

func (k *datapath) remove(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.waiting, name)
	l, err := netlink.LinkByName(name)
	if err != nil {
		return
	}
	k.drop(l.Attrs().Index)
	_ = netlink.LinkSetNoMaster(l)
}

func (k *datapath) plug(l netlink.Link, p port) {
	if l.Attrs().MasterIndex != k.bridge.Attrs().Index {
		if err := netlink.LinkSetMaster(l, k.bridge); err != nil {
			logrus.Errorf("%s into bridge0: %v", l.Attrs().Name, err)
			return
		}
	}
	old := k.ports[l.Attrs().Index]
	k.ports[l.Attrs().Index] = p
	if strings.Join(old.nextHops, ",") != strings.Join(p.nextHops, ",") {
		k.setNextHops()
	}
}

func (k *datapath) drop(index int) {
	p := k.ports[index]
	delete(k.ports, index)
	if len(p.nextHops) > 0 {
		k.setNextHops()
	}
}

func (k *datapath) setNextHops() {
	for family, bits := range map[int]int{netlink.FAMILY_V4: 32, netlink.FAMILY_V6: 128} {
		r := &netlink.Route{Table: table, Family: family, Dst: &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}}
		seen := map[string]bool{}
		for _, p := range k.ports {
			for _, h := range p.nextHops {
				ip, _, err := net.ParseCIDR(h)
				if err == nil && (ip.To4() != nil) == (bits == 32) && !seen[h] {
					seen[h] = true
					r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: k.bridge.Attrs().Index, Gw: ip})
				}
			}
		}
		var err error
		if len(r.MultiPath) > 0 {
			err = netlink.RouteReplace(r)
		} else if err = netlink.RouteDel(r); errors.Is(err, unix.ESRCH) {
			err = nil
		}
		if err != nil {
			logrus.Errorf("table %d: %v", table, err)
		}
	}
}

func rule(vip string) (*netlink.Rule, error) {
	_, src, err := net.ParseCIDR(vip)
	r := netlink.NewRule()
	r.Src, r.Table = src, table
	return r, err
}

// setVIPs makes the rules follow the list. The first list also removes the rules of an earlier process.
func (k *datapath) setVIPs(list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.vips == nil {
		k.vips = map[string]bool{}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			rules, _ := netlink.RuleListFiltered(family, &netlink.Rule{Table: table}, netlink.RT_FILTER_TABLE)
			for i := range rules {
				rules[i].Family = family
				_ = netlink.RuleDel(&rules[i])
			}
		}
	}
	want := map[string]bool{}
	for _, v := range list {
		want[v] = true
		if k.vips[v] {
			continue
		}
		r, err := rule(v)
		if err == nil {
			err = netlink.RuleAdd(r)
		}
		if err != nil {
			logrus.Errorf("rule of %s: %v", v, err)
			continue
		}
		k.vips[v] = true
	}
	for v := range k.vips {
		if !want[v] {
			if r, err := rule(v); err == nil {
				_ = netlink.RuleDel(r)
			}
			delete(k.vips, v)
		}
	}
}
