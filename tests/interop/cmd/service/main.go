// SPDX-License-Identifier: Apache-2.0

// Command service serves grpc-go's health service with its default keepalive enforcement, as IPAM and NSP do.
package main

import (
	"context"
	"flag"
	"time"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"meridio-proxy/tests/interop/internal/peer"
	"meridio-proxy/tests/interop/internal/report"
)

func main() {
	listen := flag.String("listen", "tcp://127.0.0.1:0", "address to listen on")
	lifetime := flag.Duration("lifetime", 10*time.Minute, "lifetime of tokens")

	peer.Main(func(ctx context.Context, out *report.Writer) error {
		self, err := peer.New(ctx, *lifetime)
		if err != nil {
			return err
		}
		defer self.Close()

		server := self.NewServer()
		grpc_health_v1.RegisterHealthServer(server, health.NewServer())
		_, ended, err := peer.Listen(ctx, out, *listen, server)
		if err != nil {
			return err
		}
		return peer.Wait(ctx, ended)
	})
}
