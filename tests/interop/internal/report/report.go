// SPDX-License-Identifier: Apache-2.0

// Package report prints what a program did and saw, one JSON object per line.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v4"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
)

// Fields are the members of an event beside its name.
type Fields map[string]any

// Writer prints events; it may be shared.
type Writer struct {
	mu    sync.Mutex
	out   *json.Encoder
	start time.Time
}

// NewWriter prints to out.
func NewWriter(out io.Writer) *Writer {
	return &Writer{out: json.NewEncoder(out), start: time.Now()}
}

// Event prints one line; the name becomes the member "event", the seconds since the start "at".
func (w *Writer) Event(name string, fields Fields) {
	line := Fields{"event": name, "at": time.Since(w.start).Seconds()}
	for key, value := range fields {
		line[key] = value
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.out.Encode(line) // a reader that left is no reason to stop
}

// Failed prints the error that ends the program.
func (w *Writer) Failed(err error) {
	w.Event("failed", Fields{"error": err.Error()})
}

// Segment is a path segment without its secret.
type Segment struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	// Token is "subject -> audience" of the token, empty without one.
	Token string `json:"token"`
	// Expires is the segment's own expiry in seconds from now, absent if the segment has none.
	Expires *float64 `json:"expires,omitempty"`
}

// Connection shows a connection as the tests need it.
func Connection(conn *networkservice.Connection) Fields {
	segments := []Segment{}
	for _, s := range conn.GetPath().GetPathSegments() {
		segment := Segment{Name: s.GetName(), ID: s.GetId(), Token: claims(s.GetToken())}
		if s.GetExpires() != nil {
			left := time.Until(s.GetExpires().AsTime()).Seconds()
			segment.Expires = &left
		}
		segments = append(segments, segment)
	}
	ip := conn.GetContext().GetIpContext()
	return Fields{
		"id":         conn.GetId(),
		"service":    conn.GetNetworkService(),
		"endpoint":   conn.GetNetworkServiceEndpointName(),
		"payload":    conn.GetPayload(),
		"state":      conn.GetState().String(),
		"labels":     conn.GetLabels(),
		"index":      conn.GetPath().GetIndex(),
		"segments":   segments,
		"mechanism":  conn.GetMechanism().GetType(),
		"parameters": conn.GetMechanism().GetParameters(),
		"mtu":        conn.GetContext().GetMTU(),
		"src":        ip.GetSrcIpAddrs(),
		"dst":        ip.GetDstIpAddrs(),
	}
}

// Descriptor names the file behind a mechanism whose descriptor has arrived: its inode number as text, or an
// empty string when the mechanism names no file of this process.
func Descriptor(mechanism *networkservice.Mechanism) string {
	u, err := url.Parse(mechanism.GetParameters()[common.InodeURL])
	if err != nil || u.Scheme != "file" {
		return ""
	}
	return Inode(u.Path)
}

// Inode is the inode number of a file, in decimal, or an empty string.
func Inode(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprint(stat.Ino)
}

// claims reads a token's subject and audience without verifying it.
func claims(raw string) string {
	if raw == "" {
		return ""
	}
	var c jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(raw, &c); err != nil {
		return "unreadable"
	}
	audience := ""
	if len(c.Audience) > 0 {
		audience = c.Audience[0]
	}
	return c.Subject + " -> " + audience
}
