// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/networkservicemesh/api/pkg/api/registry"
	"github.com/networkservicemesh/sdk/pkg/registry/chains/client"
	"github.com/networkservicemesh/sdk/pkg/registry/common/authorize"
	"github.com/networkservicemesh/sdk/pkg/registry/common/sendfd"
)

const (
	registryDialTimeout = 5 * time.Second
	registerTimeout     = 15 * time.Second
	unregisterTimeout   = 3 * time.Second
)

// Register makes the endpoint known through the manager, its socket passed as a descriptor, and keeps it
// known until the context ends; the service, if not nil, is registered first. The answer is the registration
// and the call that withdraws it.
func (p *Peer) Register(ctx context.Context, manager *url.URL, service *registry.NetworkService, endpoint *registry.NetworkServiceEndpoint) (
	*registry.NetworkServiceEndpoint, func() error, error) {
	policies := authorize.WithPolicies(RegistryClientPolicies...)
	registerCtx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()

	if service != nil {
		services := client.NewNetworkServiceRegistryClient(ctx,
			client.WithClientURL(manager),
			client.WithDialTimeout(registryDialTimeout),
			client.WithDialOptions(p.DialOptions()...),
			client.WithAuthorizeNSRegistryClient(authorize.NewNetworkServiceRegistryClient(policies)),
		)
		if _, err := services.Register(registerCtx, service); err != nil {
			return nil, nil, fmt.Errorf("cannot register service %q: %w", service.GetName(), err)
		}
	}

	endpoints := client.NewNetworkServiceEndpointRegistryClient(ctx,
		client.WithClientURL(manager),
		client.WithDialTimeout(registryDialTimeout),
		client.WithDialOptions(p.DialOptions()...),
		client.WithNSEAdditionalFunctionality(sendfd.NewNetworkServiceEndpointRegistryClient()),
		client.WithAuthorizeNSERegistryClient(authorize.NewNetworkServiceEndpointRegistryClient(policies)),
	)
	registered, err := endpoints.Register(registerCtx, endpoint)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot register endpoint %q: %w", endpoint.GetName(), err)
	}
	unregister := func() error {
		ctx, cancel := context.WithTimeout(ctx, unregisterTimeout)
		defer cancel()
		_, err := endpoints.Unregister(ctx, registered)
		return err
	}
	return registered, unregister, nil
}
