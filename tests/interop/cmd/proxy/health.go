// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/url"
	"sync"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/networkservicemesh/sdk/pkg/tools/grpcutils"
)

// health serves the state of each part, and Readiness and Liveness, which follow from them.
type health struct {
	mu  sync.Mutex
	srv *grpchealth.Server
	up  map[string]bool
}

func newHealth(addr string) (*health, error) {
	u, err := url.Parse(addr)
	if err != nil {
		return nil, err
	}
	h := &health{srv: grpchealth.NewServer(), up: map[string]bool{}}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, h.srv)
	for _, name := range []string{"IPAMCli", "NSPCli", "NSMEndpoint", "Egress"} {
		h.set(name, false)
	}
	_ = grpcutils.ListenAndServe(context.Background(), u, s)
	return h, nil
}

func (h *health) set(name string, up bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up[name] = up
	for n, ok := range map[string]bool{
		name:        up,
		"Readiness": h.up["IPAMCli"] && h.up["NSPCli"] && h.up["NSMEndpoint"] && h.up["Egress"],
		"Liveness":  h.up["NSMEndpoint"],
	} {
		s := healthpb.HealthCheckResponse_NOT_SERVING
		if ok {
			s = healthpb.HealthCheckResponse_SERVING
		}
		h.srv.SetServingStatus(n, s)
	}
}
