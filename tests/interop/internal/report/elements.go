// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"time"

	"github.com/golang/protobuf/ptypes/empty"
	"google.golang.org/grpc"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/sdk/pkg/networkservice/core/next"
)

// NewServer is a chain element that prints each call as it arrives and as it is answered.
func NewServer(out *Writer) networkservice.NetworkServiceServer {
	return &serverElement{out: out}
}

type serverElement struct {
	out *Writer
}

func (e *serverElement) Request(ctx context.Context, request *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	preferences := []Fields{}
	for _, m := range request.GetMechanismPreferences() {
		preferences = append(preferences, Fields{"type": m.GetType(), "descriptor": Descriptor(m)})
	}
	e.out.Event("request", Fields{
		"connection":  Connection(request.GetConnection()),
		"descriptor":  Descriptor(request.GetConnection().GetMechanism()),
		"preferences": preferences,
		"deadline":    deadline(ctx),
	})
	conn, err := next.Server(ctx).Request(ctx, request)
	if err != nil {
		e.out.Event("refused", Fields{"error": err.Error()})
		return nil, err
	}
	e.out.Event("answer", Fields{"connection": Connection(conn)})
	return conn, nil
}

func (e *serverElement) Close(ctx context.Context, conn *networkservice.Connection) (*empty.Empty, error) {
	e.out.Event("close", Fields{"connection": Connection(conn)})
	return next.Server(ctx).Close(ctx, conn)
}

// NewClient is a chain element that prints each answer, that of the sdk's own refreshes too, and calls
// answered after each Request that succeeded.
func NewClient(out *Writer, answered func()) networkservice.NetworkServiceClient {
	return &clientElement{out: out, answered: answered}
}

type clientElement struct {
	out      *Writer
	answered func()
}

func (e *clientElement) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	conn, err := next.Client(ctx).Request(ctx, request, opts...)
	if err != nil {
		e.out.Event("refused", Fields{"error": err.Error()})
		return nil, err
	}
	e.out.Event("answer", Fields{
		"connection": Connection(conn),
		"descriptor": Descriptor(conn.GetMechanism()),
	})
	e.answered()
	return conn, nil
}

func (e *clientElement) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*empty.Empty, error) {
	done, err := next.Client(ctx).Close(ctx, conn, opts...)
	if err != nil {
		e.out.Event("close refused", Fields{"error": err.Error()})
		return nil, err
	}
	e.out.Event("closed", Fields{})
	return done, nil
}

// deadline is what is left of a call's time in seconds, or null.
func deadline(ctx context.Context) any {
	at, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	return time.Until(at).Seconds()
}
