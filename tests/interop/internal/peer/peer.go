// SPDX-License-Identifier: Apache-2.0

// Package peer gives a program its place among NSM components: an identity from the SPIFFE Workload API, the
// gRPC options that follow from it, and the life of a process.
package peer

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/edwarnicke/grpcfd"
	"github.com/sirupsen/logrus"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/networkservicemesh/sdk/pkg/tools/grpcutils"
	"github.com/networkservicemesh/sdk/pkg/tools/log"
	"github.com/networkservicemesh/sdk/pkg/tools/log/logruslogger"
	"github.com/networkservicemesh/sdk/pkg/tools/opentelemetry"
	"github.com/networkservicemesh/sdk/pkg/tools/spiffejwt"
	"github.com/networkservicemesh/sdk/pkg/tools/token"
	"github.com/networkservicemesh/sdk/pkg/tools/tracing"

	"meridio-proxy/tests/interop/internal/report"
)

// RegistryServerPolicies and RegistryClientPolicies are the policies that NSM's own components apply to
// registry calls when nothing is configured.
var (
	RegistryServerPolicies = []string{"etc/nsm/opa/common/.*.rego", "etc/nsm/opa/registry/.*.rego", "etc/nsm/opa/server/.*.rego"}
	RegistryClientPolicies = []string{"etc/nsm/opa/common/.*.rego", "etc/nsm/opa/registry/.*.rego", "etc/nsm/opa/client/.*.rego"}
)

// identityTimeout bounds the wait for the first SVID.
const identityTimeout = 20 * time.Second

// Peer is one component's identity.
type Peer struct {
	source *workloadapi.X509Source
	// ID is the SPIFFE ID the Workload API gave.
	ID string
	// Tokens makes the JWTs of this component.
	Tokens token.GeneratorFunc
}

// Main runs a program until it ends or a signal asks for its end, and turns its error into exit code 1. Call
// it after the flags are declared.
func Main(run func(ctx context.Context, out *report.Writer) error) {
	level := flag.String("log-level", "INFO", "verbosity of stderr; WARN and above make the sdk lose descriptors")
	untilEOF := flag.Bool("until-eof", false, "end when standard input does: nothing outlives the parent")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if *untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}

	parsed, err := logrus.ParseLevel(*level)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	logrus.SetLevel(parsed)
	log.EnableTracing(true)
	ctx = log.WithLog(ctx, logruslogger.New(ctx))

	out := report.NewWriter(os.Stdout)
	if err := traced(ctx, func() error { return run(ctx, out) }); err != nil {
		out.Failed(err)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// traced exports the spans of a run as NSM's own components do: if TELEMETRY is true, to the collector at
// NSM_OPEN_TELEMETRY_ENDPOINT.
func traced(ctx context.Context, run func() error) error {
	exporter := opentelemetry.InitSpanExporter(ctx, os.Getenv("NSM_OPEN_TELEMETRY_ENDPOINT"))
	// The end of the run must not cut the export of its spans.
	telemetry := opentelemetry.Init(context.WithoutCancel(ctx), exporter, nil, filepath.Base(os.Args[0]))
	defer func() { _ = telemetry.Close() }()
	return run()
}

// New waits for the identity that SPIFFE_ENDPOINT_SOCKET has for this process.
func New(ctx context.Context, tokenLifetime time.Duration) (*Peer, error) {
	// The source outlives the wait: it follows rotations until Close.
	waitCtx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	source, err := workloadapi.NewX509Source(waitCtx)
	if err != nil {
		return nil, fmt.Errorf("no identity from %q: %w", os.Getenv(workloadapi.SocketEnv), err)
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("no SVID: %w", err)
	}
	return &Peer{
		source: source,
		ID:     svid.ID.String(),
		Tokens: spiffejwt.TokenGeneratorFunc(source, tokenLifetime),
	}, nil
}

// Close stops following the Workload API.
func (p *Peer) Close() {
	_ = p.source.Close()
}

// ClientCredentials are those of a plain client: SPIFFE mTLS without descriptors.
func (p *Peer) ClientCredentials() credentials.TransportCredentials {
	config := tlsconfig.MTLSClientConfig(p.source, p.source, tlsconfig.AuthorizeAny())
	config.MinVersion = tls.VersionTLS12
	return credentials.NewTLS(config)
}

// DialOptions are those of an NSM component: SPIFFE mTLS that can pass descriptors, a token in every call.
func (p *Peer) DialOptions() []grpc.DialOption {
	return append(tracing.WithTracingDial(),
		grpc.WithTransportCredentials(grpcfd.TransportCredentials(p.ClientCredentials())),
		grpc.WithBlock(),
		grpc.WithDefaultCallOptions(
			grpc.PerRPCCredentials(token.NewPerRPCCredentials(p.Tokens)),
		),
		grpcfd.WithChainStreamInterceptor(),
		grpcfd.WithChainUnaryInterceptor(),
	)
}

// NewServer makes a gRPC server with SPIFFE mTLS that can pass descriptors.
func (p *Peer) NewServer() *grpc.Server {
	config := tlsconfig.MTLSServerConfig(p.source, p.source, tlsconfig.AuthorizeAny())
	config.MinVersion = tls.VersionTLS12
	return grpc.NewServer(append(tracing.WithTracing(),
		grpc.Creds(grpcfd.TransportCredentials(credentials.NewTLS(config))))...)
}

// Listen serves on the address and reports the address as it is, with the port the system chose. It returns
// the address and the channel of the server's end.
func Listen(ctx context.Context, out *report.Writer, address string, server *grpc.Server) (*url.URL, <-chan error, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen on %q: %w", address, err)
	}
	ended := grpcutils.ListenAndServe(ctx, u, server)
	select {
	case err := <-ended:
		return nil, nil, fmt.Errorf("cannot listen on %q: %w", address, err)
	default:
	}
	out.Event("listening", report.Fields{"url": u.String()})
	return u, ended, nil
}

// Wait blocks until the server ends or the context does; only the first is an error.
func Wait(ctx context.Context, ended <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("the server ended: %w", err)
	}
}
