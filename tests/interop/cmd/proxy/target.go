// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"slices"

	"github.com/golang/protobuf/ptypes/empty"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/sdk/pkg/networkservice/core/next"
)

// targetContext gives a target its addresses and gateways. They belong to the target's own id, the first of the path.
type targetContext struct {
	l        *leases
	gateways []string
}

func (e *targetContext) Request(ctx context.Context, r *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	conn := r.GetConnection()
	src, dst, err := e.l.get(ctx, conn.GetPath().GetPathSegments()[0].GetId())
	if err != nil {
		return nil, err
	}
	e.set(ipContext(conn), src, dst)
	return next.Server(ctx).Request(ctx, r)
}

func (e *targetContext) set(ip *networkservice.IPContext, src, dst []string) {
	has := func(all, some []string) bool {
		return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
	}
	if has(ip.SrcIpAddrs, src) && has(ip.DstIpAddrs, dst) && has(ip.ExtraPrefixes, e.gateways) {
		return // perhaps with VIPs in src
	}
	// addresses of an earlier proxy go with its gateways, VIPs stay
	old := func(a string) bool {
		addr, _, err := net.ParseCIDR(a)
		return err != nil || slices.ContainsFunc(ip.ExtraPrefixes, func(g string) bool {
			_, n, err := net.ParseCIDR(g)
			return err == nil && n.Contains(addr)
		})
	}
	ip.SrcIpAddrs = append(slices.DeleteFunc(ip.SrcIpAddrs, old), src...)
	ip.DstIpAddrs = append(slices.DeleteFunc(ip.DstIpAddrs, old), dst...)
	ip.ExtraPrefixes = slices.Clone(e.gateways)
	for _, p := range ip.Policies {
		for _, route := range p.Routes {
			route.NextHop = e.gatewayLike(route.NextHop)
		}
	}
}

func (e *targetContext) gatewayLike(ip string) string {
	v4 := net.ParseIP(ip).To4() != nil
	for _, g := range e.gateways {
		if gw, _, err := net.ParseCIDR(g); err == nil && (gw.To4() != nil) == v4 {
			return gw.String()
		}
	}
	return ""
}

func (e *targetContext) Close(ctx context.Context, conn *networkservice.Connection) (*empty.Empty, error) {
	e.l.releaseLater(conn.GetPath().GetPathSegments()[0].GetId())
	return next.Server(ctx).Close(ctx, conn)
}

// targetInterface makes the link a port of the bridge; it appears after the answer.
type targetInterface struct{ k *datapath }

func (e *targetInterface) Request(ctx context.Context, r *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	if name := interfaceName(r.GetConnection()); name != "" {
		e.k.add(name, port{})
	}
	return next.Server(ctx).Request(ctx, r)
}

func (e *targetInterface) Close(ctx context.Context, conn *networkservice.Connection) (*empty.Empty, error) {
	e.k.remove(interfaceName(conn))
	return next.Server(ctx).Close(ctx, conn)
}

type targetMTU struct{ mtu uint32 }

func (e *targetMTU) Request(ctx context.Context, r *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	ipContext(r.GetConnection())
	r.Connection.Context.MTU = e.mtu
	return next.Server(ctx).Request(ctx, r)
}

func (e *targetMTU) Close(ctx context.Context, conn *networkservice.Connection) (*empty.Empty, error) {
	return next.Server(ctx).Close(ctx, conn)
}
