// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// config is the part of Meridio's environment that the twin uses.
type config struct {
	name, service, lbService, host, trench, conduit string
	ipamService, nspService                         string
	connectTo                                       *url.URL
	dialTimeout, requestTimeout, maxToken           time.Duration
	releaseDelay, renewInterval                     time.Duration
	mtu                                             uint32
	v4, v6                                          bool
}

// reader reads variables with defaults and keeps the first mistake.
type reader struct{ err error }

func (r *reader) text(key, fallback string) string {
	if value, ok := os.LookupEnv(key); ok && value != "" {
		return value
	}
	return fallback
}

func (r *reader) fail(key, value string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s=%q: %w", key, value, err)
	}
}

func (r *reader) duration(key, fallback string) time.Duration {
	value := r.text(key, fallback)
	d, err := time.ParseDuration(value)
	if err != nil {
		r.fail(key, value, err)
	}
	return d
}

func (r *reader) url(key, fallback string) *url.URL {
	value := r.text(key, fallback)
	u, err := url.Parse(value)
	if err != nil {
		r.fail(key, value, err)
	}
	return u
}

func (r *reader) number(key, fallback string) uint32 {
	value := r.text(key, fallback)
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		r.fail(key, value, err)
	}
	return uint32(n)
}

func readConfig() (*config, error) {
	r := &reader{}
	trench := r.text("NSM_TRENCH", "default")
	family := strings.ToLower(r.text("NSM_IP_FAMILY", "dualstack"))
	c := &config{
		name:           r.text("NSM_NAME", "proxy"),
		service:        r.text("NSM_SERVICE_NAME", "proxy"),
		lbService:      r.text("NSM_NETWORK_SERVICE_NAME", "load-balancer"),
		host:           r.text("NSM_HOST", ""),
		trench:         trench,
		conduit:        r.text("NSM_CONDUIT", "load-balancer"),
		ipamService:    r.text("NSM_IPAM_SERVICE", "ipam-service:7777"),
		connectTo:      r.url("NSM_CONNECT_TO", "unix:///var/lib/networkservicemesh/nsm.io.sock"),
		dialTimeout:    r.duration("NSM_DIAL_TIMEOUT", "5s"),
		requestTimeout: r.duration("NSM_REQUEST_TIMEOUT", "15s"),
		maxToken:       r.duration("NSM_MAX_TOKEN_LIFETIME", "24h"),
		releaseDelay:   r.duration("NSM_IP_RELEASE_DELAY", "20s"),
		renewInterval:  r.duration("NSM_BRIDGE_IP_RENEW_INTERVAL", "5m"),
		mtu:            r.number("NSM_MTU", "1500"),
		v4:             family != "ipv6",
		v6:             family != "ipv4",
	}
	c.nspService = fmt.Sprintf("%s-%s.%s:%s", r.text("NSM_NSP_SERVICE_NAME", "nsp-service"), trench,
		r.text("NSM_NAMESPACE", "default"), r.text("NSM_NSP_SERVICE_PORT", "7778"))
	return c, r.err
}
