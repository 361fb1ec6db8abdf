// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"

	"github.com/golang/protobuf/ptypes/empty"
	"google.golang.org/grpc"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/sdk/pkg/networkservice/core/next"
)

func ipContext(conn *networkservice.Connection) *networkservice.IPContext {
	if conn.Context == nil {
		conn.Context = &networkservice.ConnectionContext{}
	}
	if conn.Context.IpContext == nil {
		conn.Context.IpContext = &networkservice.IPContext{}
	}
	return conn.Context.IpContext
}

func interfaceName(conn *networkservice.Connection) string {
	if m := kernelmech.ToMechanism(conn.GetMechanism()); m != nil {
		return m.GetInterfaceName()
	}
	return ""
}

// lbContext leases the addresses of a link to an LB: the proxy, its client, takes the `-dst` ones.
type lbContext struct{ l *leases }

func (e *lbContext) Request(ctx context.Context, r *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	conn := r.GetConnection()
	id, established := conn.GetId(), conn.GetMechanism() != nil
	src, dst, err := e.l.get(ctx, id)
	if err == nil {
		ip := ipContext(conn)
		ip.SrcIpAddrs, ip.DstIpAddrs = dst, src
		conn, err = next.Client(ctx).Request(ctx, r, opts...)
	}
	if err != nil && !established {
		e.l.releaseLater(id)
	}
	return conn, err
}

func (e *lbContext) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*empty.Empty, error) {
	e.l.releaseLater(conn.GetId())
	return next.Client(ctx).Close(ctx, conn, opts...)
}

// lbInterface makes the link a port of the bridge and its LB a next hop.
type lbInterface struct{ k *datapath }

func (e *lbInterface) Request(ctx context.Context, r *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	conn, err := next.Client(ctx).Request(ctx, r, opts...)
	if err == nil {
		e.k.add(interfaceName(conn), port{nextHops: conn.GetContext().GetIpContext().GetDstIpAddrs()})
	}
	return conn, err
}

func (e *lbInterface) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*empty.Empty, error) {
	e.k.remove(interfaceName(conn))
	return next.Client(ctx).Close(ctx, conn, opts...)
}

type lbMTU struct{ mtu uint32 }

func (e *lbMTU) Request(ctx context.Context, r *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	ipContext(r.GetConnection())
	r.Connection.Context.MTU = e.mtu
	return next.Client(ctx).Request(ctx, r, opts...)
}

func (e *lbMTU) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*empty.Empty, error) {
	return next.Client(ctx).Close(ctx, conn, opts...)
}

// egress is healthy while one LB is connected.
type egress struct {
	h   *health
	mu  sync.Mutex
	ids map[string]bool
}

func (e *egress) set(id string, up bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ids == nil {
		e.ids = map[string]bool{}
	}
	if up {
		e.ids[id] = true
	} else {
		delete(e.ids, id)
	}
	e.h.set("Egress", len(e.ids) > 0)
}

func (e *egress) Request(ctx context.Context, r *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	conn, err := next.Client(ctx).Request(ctx, r, opts...)
	if err == nil {
		e.set(conn.GetId(), true)
	}
	return conn, err
}

func (e *egress) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*empty.Empty, error) {
	e.set(conn.GetId(), false)
	return next.Client(ctx).Close(ctx, conn, opts...)
}

// pin keeps a connection at its LB, also when heal asks for any.
type pin struct{ lbs sync.Map }

func (e *pin) Request(ctx context.Context, r *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	lb, _ := e.lbs.LoadOrStore(r.GetConnection().GetId(), r.GetConnection().GetNetworkServiceEndpointName())
	r.Connection.NetworkServiceEndpointName = lb.(string)
	return next.Client(ctx).Request(ctx, r, opts...)
}

func (e *pin) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*empty.Empty, error) {
	return next.Client(ctx).Close(ctx, conn, opts...)
}
