// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/api/pkg/api/networkservice/payload"
	registryapi "github.com/networkservicemesh/api/pkg/api/registry"

	"meridio-proxy/tests/interop/internal/peer"
)

// mesh keeps one connection to every LB that the registry knows.
type mesh struct {
	c      *config
	client networkservice.NetworkServiceClient
	find   registryapi.NetworkServiceEndpointRegistryClient
	mon    networkservice.MonitorConnectionClient

	mu  sync.Mutex
	lbs map[string]*lb
}

type lb struct {
	expires time.Time
	cancel  func()        // ends a waiting Request
	done    chan struct{} // the Request has returned
	conn    *networkservice.Connection
}

func newMesh(ctx context.Context, c *config, self *peer.Peer, cl networkservice.NetworkServiceClient) (*mesh, error) {
	cc, err := grpc.DialContext(ctx, "unix:"+c.connectTo.Path, waitingDialOptions(self)...)
	if err != nil {
		return nil, fmt.Errorf("nsmgr: %w", err)
	}
	return &mesh{
		c:      c,
		client: cl,
		find:   registryapi.NewNetworkServiceEndpointRegistryClient(cc),
		mon:    networkservice.NewMonitorConnectionClient(cc),
		lbs:    map[string]*lb{},
	}, nil
}

func (m *mesh) run(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(500 * time.Millisecond) {
		s, err := m.find.Find(ctx, &registryapi.NetworkServiceEndpointQuery{Watch: true,
			NetworkServiceEndpoint: &registryapi.NetworkServiceEndpoint{NetworkServiceNames: []string{m.c.lbService}}})
		for err == nil {
			var r *registryapi.NetworkServiceEndpointResponse
			if r, err = s.Recv(); err == nil {
				m.event(ctx, r)
			}
		}
		m.evict()
	}
}

func (m *mesh) event(ctx context.Context, r *registryapi.NetworkServiceEndpointResponse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nse := r.GetNetworkServiceEndpoint()
	name, end := nse.GetName(), nse.GetExpirationTime()
	known := m.lbs[name]
	switch {
	case r.GetDeleted() || end == nil || end.GetSeconds() < 0:
		if known != nil {
			delete(m.lbs, name)
			go m.disconnect(known)
		}
	case known != nil:
		known.expires = end.AsTime()
	default:
		rctx, cancel := context.WithCancel(ctx)
		x := &lb{expires: end.AsTime(), cancel: cancel, done: make(chan struct{})}
		m.lbs[name] = x
		go m.connect(rctx, name, x)
	}
}

// evict removes the LBs whose registration has expired without an event of the registry.
func (m *mesh) evict() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, x := range m.lbs {
		if x.expires.Add(m.c.maxToken / 2).Before(time.Now()) {
			delete(m.lbs, name)
			go m.disconnect(x)
		}
	}
}

func (m *mesh) connect(ctx context.Context, name string, x *lb) {
	defer close(x.done)
	id := m.c.name + "-" + m.c.lbService + "-" + name
	conn := m.recover(ctx, id)
	if conn == nil {
		conn = &networkservice.Connection{Id: id, NetworkService: m.c.lbService, Payload: payload.Ethernet}
	}
	conn.NetworkServiceEndpointName = name
	conn, err := m.client.Request(ctx, &networkservice.NetworkServiceRequest{Connection: conn,
		MechanismPreferences: []*networkservice.Mechanism{{Cls: cls.LOCAL, Type: kernelmech.MECHANISM}}})
	if err != nil {
		logrus.Infof("%s: %v", name, err)
		return
	}
	x.conn = conn
	logrus.Infof("%s: connected", name)
}

// recover finds the connection of an earlier process; it is requested again over the same path.
func (m *mesh) recover(ctx context.Context, id string) *networkservice.Connection {
	ctx, cancel := context.WithTimeout(ctx, m.c.requestTimeout)
	defer cancel()
	s, err := m.mon.MonitorConnections(ctx, &networkservice.MonitorScopeSelector{PathSegments: []*networkservice.PathSegment{{Id: id}}})
	if err != nil {
		return nil
	}
	e, err := s.Recv()
	if err != nil {
		return nil
	}
	for _, conn := range e.GetConnections() {
		p := conn.GetPath()
		if p.GetIndex() == 1 && p.GetPathSegments()[0].GetId() == id && conn.GetMechanism().GetType() == kernelmech.MECHANISM {
			p.Index, conn.Id = 0, id
			conn.Mechanism, conn.State = nil, networkservice.State_RESELECT_REQUESTED
			return conn
		}
	}
	return nil
}

func (m *mesh) disconnect(x *lb) {
	x.cancel()
	<-x.done
	if x.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.c.requestTimeout)
	defer cancel()
	if _, err := m.client.Close(ctx, x.conn); err != nil {
		logrus.Errorf("close %s: %v", x.conn.GetNetworkServiceEndpointName(), err)
	}
}

func (m *mesh) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, x := range m.lbs {
		m.disconnect(x)
		delete(m.lbs, name)
	}
}
