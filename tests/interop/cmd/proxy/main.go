// SPDX-License-Identifier: Apache-2.0

// Command proxy is the Go twin: Meridio's proxy as its peers see it, built from the elements of the unmodified sdk.
// It reads the environment of Meridio's proxy, makes the same names, ids, bridge and routes, and keeps the known
// weaknesses of that proxy: no blackhole route, rules that follow an empty VIP list, no probing, no announcements.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/noop"
	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/client"
	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/endpoint"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/authorize"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/heal"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/kernel"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/sendfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/null"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/retry"
	"github.com/networkservicemesh/sdk/pkg/tools/grpcutils"
	"github.com/networkservicemesh/sdk/pkg/tools/log"

	"meridio-proxy/tests/interop/internal/meridio/ipam"
	"meridio-proxy/tests/interop/internal/meridio/nsp"
	"meridio-proxy/tests/interop/internal/peer"
	"meridio-proxy/tests/interop/internal/report"
)

const (
	healthSocket = "unix:///tmp/health.sock"
	// retryInterval separates the tries of one Request to a load balancer.
	retryInterval = 10 * time.Second
	// releaseTimeout bounds the release of addresses at the end.
	releaseTimeout = 8 * time.Second
)

func main() {
	peer.Main(func(ctx context.Context, _ *report.Writer) error {
		// The sdk's traces of each element cost more than the elements.
		log.EnableTracing(false)
		c, err := readConfig()
		if err != nil {
			return err
		}
		return run(ctx, c)
	})
}

// run brings the proxy up, serves until the context ends, and takes it down.
func run(ctx context.Context, c *config) error {
	h, err := newHealth(healthSocket)
	if err != nil {
		return err
	}
	self, err := peer.New(ctx, c.maxToken)
	if err != nil {
		return err
	}
	defer self.Close()

	ipamChannel, err := dial(ctx, self, c.ipamService, h, "IPAMCli")
	if err != nil {
		return err
	}
	nspChannel, err := dial(ctx, self, c.nspService, h, "NSPCli")
	if err != nil {
		return err
	}
	l := newLeases(ipam.NewIpamClient(ipamChannel), c)
	k, err := newDatapath(ctx)
	if err != nil {
		return err
	}
	gateways, err := bringUpBridge(ctx, l, k)
	if err != nil {
		return err
	}
	go l.renewBridge(ctx, c.renewInterval)
	go followVIPs(ctx, nsp.NewConfigurationManagerClient(nspChannel), c.trench, k)

	base := context.WithoutCancel(ctx) // closing needs the chains after the signal
	m, err := newMesh(ctx, c, self, loadBalancerChain(base, c, self, l, k, h))
	if err != nil {
		return err
	}
	go m.run(ctx)

	server, socket, remove, err := serve(base, c, self, l, k, gateways)
	if err != nil {
		return err
	}
	defer remove()
	unregister, err := register(ctx, base, c, self, socket)
	if err != nil {
		return err
	}
	go probeSelf(ctx, self, socket, h)

	<-ctx.Done()
	unregister()
	server.Stop()
	m.close()
	l.flush(releaseTimeout)
	return nil
}

// bringUpBridge waits until IPAM has answered the addresses of the bridge, and sets them.
func bringUpBridge(ctx context.Context, l *leases, k *datapath) ([]string, error) {
	for {
		gateways, err := l.bridge(ctx)
		if err == nil {
			return gateways, k.setBridgeAddrs(gateways)
		}
		logrus.Errorf("bridge addresses: %v", err)
		select {
		case <-ctx.Done():
			return nil, errors.New("ended before IPAM answered")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// loadBalancerChain is the chain that calls load balancers, with Meridio's retry around it.
func loadBalancerChain(
	base context.Context, c *config, self *peer.Peer, l *leases, k *datapath, h *health,
) networkservice.NetworkServiceClient {
	chain := client.NewClient(base,
		client.WithClientURL(c.connectTo),
		client.WithName(c.name),
		client.WithHealClient(heal.NewClient(base)),
		client.WithDialTimeout(c.dialTimeout),
		client.WithDialOptions(waitingDialOptions(self)...),
		client.WithAdditionalFunctionality(
			mechanisms.NewClient(map[string]networkservice.NetworkServiceClient{
				kernelmech.MECHANISM: kernel.NewClient(),
			}),
			&lbContext{l},
			&lbInterface{k},
			&lbMTU{c.mtu},
			&egress{h: h},
			&pin{},
			sendfd.NewClient(),
		))
	return retry.NewClient(chain, retry.WithTryTimeout(c.requestTimeout), retry.WithInterval(retryInterval))
}

// serve serves the chain that targets call on a socket in a folder of its own, which remove deletes.
func serve(
	base context.Context, c *config, self *peer.Peer, l *leases, k *datapath, gateways []string,
) (server *grpc.Server, socket *url.URL, remove func(), err error) {
	chain := endpoint.NewServer(base, self.Tokens,
		endpoint.WithName(c.name),
		endpoint.WithAuthorizeServer(authorize.NewServer()),
		endpoint.WithAdditionalFunctionality(
			mechanisms.NewServer(map[string]networkservice.NetworkServiceServer{
				kernelmech.MECHANISM: kernel.NewServer(),
				noop.MECHANISM:       null.NewServer(),
			}),
			&targetContext{l, gateways},
			&targetInterface{k},
			&targetMTU{c.mtu},
			sendfd.NewServer(),
		))
	server = self.NewServer()
	chain.Register(server)
	dir, err := os.MkdirTemp("", c.name)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("no folder for the endpoint's socket: %w", err)
	}
	socket = &url.URL{Scheme: "unix", Path: filepath.Join(dir, "listen.on")}
	_ = grpcutils.ListenAndServe(base, socket, server)
	return server, socket, func() { _ = os.RemoveAll(dir) }, nil
}
