// SPDX-License-Identifier: Apache-2.0

// Command client asks for one connection, lets the sdk refresh it, closes it, and prints what it sees.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/client"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/authorize"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/heal"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/kernel"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/recvfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/sendfd"
	"github.com/networkservicemesh/sdk/pkg/tools/grpcutils"

	"meridio-proxy/tests/interop/internal/peer"
	"meridio-proxy/tests/interop/internal/report"
)

// options are the command line.
type options struct {
	name, connect, service, endpoint, id string
	node                                 string
	refreshes                            int
	hold                                 bool
	timeout, lifetime, patience          time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.name, "name", "client", "name in the path")
	flag.StringVar(&o.connect, "connect", "", "unix:// address of the manager, or of the endpoint itself")
	flag.StringVar(&o.service, "service", "service", "network service to ask for")
	flag.StringVar(&o.endpoint, "endpoint", "", "endpoint to ask for; empty: any")
	flag.StringVar(&o.node, "node", "", "value of the label nodeName; empty: no label")
	flag.StringVar(&o.id, "id", "client-0", "connection id")
	flag.IntVar(&o.refreshes, "refreshes", 3, "refreshes to wait for before the Close")
	flag.BoolVar(&o.hold, "hold", false, "keep the connection until a signal asks for the Close")
	flag.DurationVar(&o.timeout, "timeout", 15*time.Second, "deadline of one call")
	flag.DurationVar(&o.lifetime, "lifetime", 10*time.Minute, "lifetime of tokens; the sdk refreshes after a fifth of it")
	flag.DurationVar(&o.patience, "patience", 30*time.Second, "time for the refreshes, and for the last monitor event")
	peer.Main(func(ctx context.Context, out *report.Writer) error { return run(ctx, out, o) })
}

func run(ctx context.Context, out *report.Writer, o options) error {
	target, err := url.Parse(o.connect)
	if err != nil || target.Scheme == "" {
		return fmt.Errorf("-connect %q: want an address as unix:///path", o.connect)
	}
	self, err := peer.New(ctx, o.lifetime)
	if err != nil {
		return err
	}
	defer self.Close()
	out.Event("started", report.Fields{"id": self.ID, "netns": report.Inode("/proc/self/ns/net")})

	dialCtx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	//nolint:staticcheck // the sdk of this version dials so
	cc, err := grpc.DialContext(dialCtx, grpcutils.URLToTarget(target), self.DialOptions()...)
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", target, err)
	}
	defer func() { _ = cc.Close() }()
	if err := checkHealth(dialCtx, out, cc); err != nil {
		return err
	}
	// A signal asks for the Close, which must not be cut by it.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	deleted, err := watch(life, out, cc, o.id)
	if err != nil {
		return fmt.Errorf("cannot monitor: %w", err)
	}

	answers := make(chan struct{}, o.refreshes+1)
	nsc := newChain(life, self, out, target, o, func() {
		select {
		case answers <- struct{}{}:
		default: // more than were asked for
		}
	})
	conn, err := request(life, nsc, o)
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	patience := time.After(o.patience)
	for seen := 0; seen <= o.refreshes; seen++ {
		select {
		case <-answers:
		case <-patience:
			return fmt.Errorf("saw %d of %d refreshes in %s", seen-1, o.refreshes, o.patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if o.hold {
		<-ctx.Done()
	}

	closeCtx, cancelClose := context.WithTimeout(life, o.timeout)
	defer cancelClose()
	if _, err := nsc.Close(closeCtx, conn); err != nil {
		return fmt.Errorf("cannot close: %w", err)
	}
	select {
	case <-deleted:
		return nil
	case <-time.After(o.patience):
		return errors.New("no monitor event says that the connection is gone")
	}
}

// newChain is the sdk's client as an application uses it, with the policies that check every token of the answer.
func newChain(ctx context.Context, self *peer.Peer, out *report.Writer, target *url.URL, o options, answered func()) networkservice.NetworkServiceClient {
	return client.NewClient(ctx,
		client.WithName(o.name),
		client.WithClientURL(target),
		client.WithDialOptions(self.DialOptions()...),
		client.WithDialTimeout(o.timeout),
		client.WithAuthorizeClient(authorize.NewClient()),
		client.WithHealClient(heal.NewClient(ctx)),
		client.WithAdditionalFunctionality(
			report.NewClient(out, answered),
			mechanisms.NewClient(map[string]networkservice.NetworkServiceClient{
				kernelmech.MECHANISM: kernel.NewClient(),
			}),
			recvfd.NewClient(),
			sendfd.NewClient(),
		),
	)
}

func request(ctx context.Context, nsc networkservice.NetworkServiceClient, o options) (*networkservice.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	labels := map[string]string{}
	if o.node != "" {
		labels["nodeName"] = o.node
	}
	return nsc.Request(ctx, &networkservice.NetworkServiceRequest{
		Connection: &networkservice.Connection{
			Id:                         o.id,
			NetworkService:             o.service,
			NetworkServiceEndpointName: o.endpoint,
			Payload:                    "ETHERNET",
			Labels:                     labels,
		},
		MechanismPreferences: []*networkservice.Mechanism{
			{Cls: cls.LOCAL, Type: kernelmech.MECHANISM, Parameters: map[string]string{}},
		},
	})
}

// checkHealth asks for the services that every NSM component has.
func checkHealth(ctx context.Context, out *report.Writer, cc grpc.ClientConnInterface) error {
	for _, name := range []string{"", "networkservice.NetworkService", "connection.MonitorConnection"} {
		answer, err := grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil {
			return fmt.Errorf("health of %q: %w", name, err)
		}
		out.Event("health", report.Fields{"service": name, "status": answer.GetStatus().String()})
	}
	return nil
}

// watch prints the monitor's events about one connection until the context ends; the channel is closed when
// the connection is said to be gone. It answers when the first event is here.
func watch(ctx context.Context, out *report.Writer, cc grpc.ClientConnInterface, id string) (<-chan struct{}, error) {
	stream, err := networkservice.NewMonitorConnectionClient(cc).MonitorConnections(ctx, &networkservice.MonitorScopeSelector{
		PathSegments: []*networkservice.PathSegment{{Id: id}},
	})
	if err != nil {
		return nil, err
	}
	deleted := make(chan struct{})
	next := func() (*networkservice.ConnectionEvent, error) {
		event, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		connections := []report.Fields{}
		for _, conn := range event.GetConnections() {
			connections = append(connections, report.Connection(conn))
		}
		out.Event("monitor", report.Fields{"type": event.GetType().String(), "connections": connections})
		return event, nil
	}
	if _, err := next(); err != nil {
		return nil, err
	}
	go func() {
		for {
			event, err := next()
			if err != nil {
				if ctx.Err() == nil {
					out.Event("monitor ended", report.Fields{"error": err.Error()})
				}
				return
			}
			if event.GetType() == networkservice.ConnectionEventType_DELETE {
				close(deleted)
				return
			}
		}
	}()
	return deleted, nil
}
