// SPDX-License-Identifier: Apache-2.0

// Command collector is a real OpenTelemetry collector with two parts: an OTLP receiver, and an exporter that
// writes each batch as a line of JSON.
package main

import (
	"flag"
	"fmt"
	"log"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

// config has a receiver for pods that reach the collector over the network, and one for those of its node.
const config = `yaml:
receivers:
  otlp/network: {protocols: {grpc: {endpoint: '%s'}}}
  otlp/node: {protocols: {grpc: {endpoint: '%s', transport: unix}}}
exporters:
  file: {path: '%s', flush_interval: 100ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp/network, otlp/node], exporters: [file]}
    metrics: {receivers: [otlp/network], exporters: [file]}
`

func main() {
	listen := flag.String("listen", "127.0.0.1:4317", "host:port of the receiver")
	socket := flag.String("socket", "", "unix socket of the second receiver")
	out := flag.String("out", "", "file of the spans and metrics")
	flag.Parse()

	in, files := otlpreceiver.NewFactory(), fileexporter.NewFactory()
	settings := otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Version: "1"},
		Factories: func() (otelcol.Factories, error) {
			return otelcol.Factories{
				Receivers: map[component.Type]receiver.Factory{in.Type(): in},
				Exporters: map[component.Type]exporter.Factory{files.Type(): files},
				Telemetry: otelconftelemetry.NewFactory(),
			}, nil
		},
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{fmt.Sprintf(config, *listen, *socket, *out)},
			DefaultScheme:     "yaml",
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	}
	command := otelcol.NewCommand(settings)
	command.SetArgs([]string{})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
