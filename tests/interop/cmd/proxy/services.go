// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/networkservicemesh/api/pkg/api/networkservice/payload"
	registryapi "github.com/networkservicemesh/api/pkg/api/registry"
	registryclient "github.com/networkservicemesh/sdk/pkg/registry/chains/client"
	registrysendfd "github.com/networkservicemesh/sdk/pkg/registry/common/sendfd"

	"meridio-proxy/tests/interop/internal/meridio/nsp"
	"meridio-proxy/tests/interop/internal/peer"
)

const (
	keepaliveTime = 30 * time.Second
	// endpointLifetime is the expiration that Meridio's proxy asks the registry for.
	endpointLifetime  = time.Minute
	unregisterTimeout = 3 * time.Second
	probeInterval     = 5 * time.Second
	probeTimeout      = time.Second
	watchRetry        = 500 * time.Millisecond
)

// waitingDialOptions are a component's, with calls that wait for the channel.
func waitingDialOptions(self *peer.Peer) []grpc.DialOption {
	return append(self.DialOptions(), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

// dial opens a channel to a TCP service; health follows its state.
func dial(ctx context.Context, self *peer.Peer, addr string, h *health, name string) (*grpc.ClientConn, error) {
	cc, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(self.ClientCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	cc.Connect()
	go func() {
		for state := cc.GetState(); ctx.Err() == nil; state = cc.GetState() {
			h.set(name, state == connectivity.Ready)
			if state == connectivity.Idle {
				cc.Connect()
			}
			cc.WaitForStateChange(ctx, state)
		}
	}()
	return cc, nil
}

// register registers the network service and the endpoint; a target reaches only the proxy of its own node. The
// returned function unregisters the endpoint.
func register(ctx, base context.Context, c *config, self *peer.Peer, listenOn *url.URL) (func(), error) {
	options := waitingDialOptions(self)
	nsClient := registryclient.NewNetworkServiceRegistryClient(base,
		registryclient.WithClientURL(c.connectTo),
		registryclient.WithDialTimeout(c.dialTimeout),
		registryclient.WithDialOptions(options...))
	nseClient := registryclient.NewNetworkServiceEndpointRegistryClient(base,
		registryclient.WithClientURL(c.connectTo),
		registryclient.WithDialTimeout(c.dialTimeout),
		registryclient.WithDialOptions(options...),
		registryclient.WithNSEAdditionalFunctionality(registrysendfd.NewNetworkServiceEndpointRegistryClient()))
	node := map[string]string{"nodeName": "{{.nodeName}}"}
	service := &registryapi.NetworkService{
		Name:    c.service,
		Payload: payload.Ethernet,
		Matches: []*registryapi.Match{{
			SourceSelector: node,
			Routes:         []*registryapi.Destination{{DestinationSelector: node}},
		}},
	}
	if _, err := nsClient.Register(ctx, service); err != nil {
		return nil, fmt.Errorf("register network service %s: %w", c.service, err)
	}
	labels := map[string]string{}
	if c.host != "" {
		labels["nodeName"] = c.host
	}
	nse, err := nseClient.Register(ctx, &registryapi.NetworkServiceEndpoint{
		Name:                 c.name,
		NetworkServiceNames:  []string{c.service},
		Url:                  listenOn.String(),
		NetworkServiceLabels: map[string]*registryapi.NetworkServiceLabels{c.service: {Labels: labels}},
		ExpirationTime:       timestamppb.New(time.Now().Add(endpointLifetime)),
	})
	if err != nil {
		return nil, fmt.Errorf("register endpoint %s: %w", c.name, err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(base, unregisterTimeout)
		defer cancel()
		_, _ = nseClient.Unregister(ctx, nse)
	}, nil
}

// probeSelf asks the endpoint for its health over mTLS, as nsmgr would reach it.
func probeSelf(ctx context.Context, self *peer.Peer, listenOn *url.URL, h *health) {
	cc, err := grpc.NewClient(listenOn.String(), grpc.WithTransportCredentials(self.ClientCredentials()))
	if err != nil {
		h.set("NSMEndpoint", false)
		return
	}
	for ctx.Err() == nil {
		probe, cancel := context.WithTimeout(ctx, probeTimeout)
		answer, err := healthpb.NewHealthClient(cc).Check(probe, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		cancel()
		h.set("NSMEndpoint", err == nil && answer.GetStatus() == healthpb.HealthCheckResponse_SERVING)
		select {
		case <-ctx.Done():
		case <-time.After(probeInterval):
		}
	}
}

// followVIPs makes the rules follow the list that NSP publishes.
func followVIPs(ctx context.Context, client nsp.ConfigurationManagerClient, trench string, k *datapath) {
	for ; ctx.Err() == nil; time.Sleep(watchRetry) {
		watch, err := client.WatchVip(ctx, &nsp.Vip{Trench: &nsp.Trench{Name: trench}})
		for err == nil {
			var response *nsp.VipResponse
			if response, err = watch.Recv(); err == nil {
				var list []string
				for _, vip := range response.GetVips() {
					list = append(list, vip.GetAddress())
				}
				k.setVIPs(list)
			}
		}
	}
}
