// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const deploy = "../../deploy"

// rendered is the object of a kind in a folder.
func rendered(t *testing.T, folder, kind string) []byte {
	t.Helper()
	objects, err := Render(filepath.Join(deploy, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if strings.Contains(string(object), "\nkind: "+kind+"\n") {
			return object
		}
	}
	t.Fatalf("%s has no %s", folder, kind)
	return nil
}

func daemonSet(t *testing.T, text []byte) appsv1.DaemonSet {
	t.Helper()
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(text, &set); err != nil {
		t.Fatal(err)
	}
	return set
}

func TestEachMistakeIsNamed(t *testing.T) {
	for _, mistake := range []struct{ kind, right, wrong, named string }{
		{"DaemonSet", "terminationGracePeriodSeconds: 30", "terminationGracePeriodSecond: 30", `unknown field "spec.template.spec.terminationGracePeriodSecond"`},
		{"DaemonSet", "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: soon", "cannot unmarshal string"},
		{"DaemonSet", "name: proxy\n", "name: Proxy\n", "RFC 1123"},
		{"DaemonSet", "mountPath: /tmp", "mountPath: /run/spire/sockets", "must be unique"},
		{"DaemonSet", "name: tmp\n", "name: temporary\n", "volumeMounts[2].name: Not found"},
		{"DaemonSet", "image: meridio-proxy:0.1.0", "image: \"\"", "image: Required value"},
		{"DaemonSet", "type: RuntimeDefault", "type: Localhost", "localhostProfile: Required value"},
		{"NetworkPolicy", "protocol: UDP", "protocol: ICMP", "Unsupported value"},
		{"NetworkPolicy", "port: 7777", "port: 77777", "between 1 and 65535"},
		{"PodMonitor", "interval: 5s", "intervall: 5s", `unknown field "spec.podMetricsEndpoints[0].intervall"`},
	} {
		right := rendered(t, map[bool]string{true: "example", false: "base"}[mistake.kind == "PodMonitor"], mistake.kind)
		if _, err := Validate(right); err != nil {
			t.Fatal(err)
		}
		wrong := bytes.Replace(right, []byte(mistake.right), []byte(mistake.wrong), 1)
		if _, err := Validate(wrong); err == nil || !strings.Contains(err.Error(), mistake.named) {
			t.Errorf("%s: %v does not name %q", mistake.wrong, err, mistake.named)
		}
	}
}

func TestOtherKindsAreRefused(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}\n"
	if _, err := Validate([]byte(pod)); err == nil || !strings.Contains(err.Error(), "supported values") {
		t.Error(err)
	}
}

func TestTheProxyIsConfined(t *testing.T) {
	spec := daemonSet(t, rendered(t, "example", "DaemonSet")).Spec.Template.Spec
	proxy := spec.Containers[0].SecurityContext
	if !*proxy.RunAsNonRoot || *proxy.RunAsUser != 10005 || !*proxy.ReadOnlyRootFilesystem || proxy.Privileged != nil {
		t.Errorf("%+v", proxy)
	}
	if !slices.Equal(proxy.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
		!slices.Equal(proxy.Capabilities.Add, []corev1.Capability{"NET_ADMIN", "NET_RAW"}) {
		t.Errorf("%+v", proxy.Capabilities)
	}
	if *spec.AutomountServiceAccountToken || spec.HostNetwork || spec.HostPID {
		t.Errorf("%+v", spec)
	}
	if profile := proxy.SeccompProfile.LocalhostProfile; *profile != "profiles/meridio-proxy.json" {
		t.Error(*profile)
	}
}

func TestTheConduitReachesTheProxy(t *testing.T) {
	var config corev1.ConfigMap
	if err := yaml.UnmarshalStrict(rendered(t, "example", "ConfigMap"), &config); err != nil {
		t.Fatal(err)
	}
	if config.Data["trench"] != "trench-a" || config.Data["conduit"] != "conduit-a" {
		t.Errorf("%v", config.Data)
	}
	found := 0
	for _, variable := range daemonSet(t, rendered(t, "example", "DaemonSet")).Spec.Template.Spec.Containers[0].Env {
		if variable.ValueFrom != nil && variable.ValueFrom.ConfigMapKeyRef != nil {
			if name := variable.ValueFrom.ConfigMapKeyRef.Name; name != config.Name {
				t.Errorf("%s is read from %s, the ConfigMap is %s", variable.Name, name, config.Name)
			}
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d variables come from the ConfigMap", found)
	}
}

// The lists are those that a test of the lab starts the proxy with.
func TestTheEnvironmentsAreThoseThatTheProxyIsStartedWith(t *testing.T) {
	for _, folder := range []string{"base", "example"} {
		var config corev1.ConfigMap
		if err := yaml.UnmarshalStrict(rendered(t, folder, "ConfigMap"), &config); err != nil {
			t.Fatal(err)
		}
		list, err := Environment(daemonSet(t, rendered(t, folder, "DaemonSet")), config)
		if err != nil {
			t.Fatal(err)
		}
		file := "../../lab/tests/environment/" + folder + ".env"
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, listed, _ := strings.Cut(string(text), "\n")
		if expected := strings.Join(list, "\n") + "\n"; listed != expected {
			t.Errorf("%s must have\n%s", file, expected)
		}
	}
}

func TestAVariableThatCannotBeMadeIsNamed(t *testing.T) {
	for _, mistake := range []struct{ right, wrong, named string }{
		{"$(NSM_CONDUIT).$(NSM_TRENCH).$(NSM_NAMESPACE)", "$(NSM_CONDUT)", "NSM_CONDUT"},
		{"key: trench", "key: trnch", "trnch"},
		{"fieldPath: spec.nodeName", "fieldPath: spec.node", "spec.node"},
	} {
		var config corev1.ConfigMap
		if err := yaml.UnmarshalStrict(rendered(t, "base", "ConfigMap"), &config); err != nil {
			t.Fatal(err)
		}
		wrong := strings.Replace(string(rendered(t, "base", "DaemonSet")), mistake.right, mistake.wrong, 1)
		if _, err := Environment(daemonSet(t, []byte(wrong)), config); err == nil || !strings.Contains(err.Error(), mistake.named) {
			t.Errorf("%s: %v does not name %q", mistake.wrong, err, mistake.named)
		}
	}
}

func TestMeridiosChartGetsTheImageAndNothingElse(t *testing.T) {
	folder, err := os.MkdirTemp(deploy, "chart-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	chart := bytes.ReplaceAll(rendered(t, "base", "DaemonSet"), []byte("image: meridio-proxy:0.1.0"),
		[]byte("image: registry.nordix.org/cloud-native/meridio/proxy:latest"))
	kustomization := "resources: [meridio.yaml]\ncomponents: [../meridio]\n"
	for name, text := range map[string]string{"meridio.yaml": string(chart), "kustomization.yaml": kustomization} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := daemonSet(t, chart)
	after := daemonSet(t, rendered(t, filepath.Base(folder), "DaemonSet"))
	if image := &after.Spec.Template.Spec.Containers[0].Image; *image != "registry.example.org/meridio-proxy:0.1.0" {
		t.Error(*image)
	} else {
		*image = before.Spec.Template.Spec.Containers[0].Image
	}
	was, _ := yaml.Marshal(before)
	is, _ := yaml.Marshal(after)
	if !bytes.Equal(was, is) {
		t.Errorf("was\n%s\nis\n%s", was, is)
	}
}

func TestTheSeccompProfileIsClosed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deploy, "components/seccomp/meridio-proxy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var profile specs.LinuxSeccomp
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&profile); err != nil {
		t.Fatal(err)
	}
	if profile.DefaultAction != specs.ActErrno || len(profile.Syscalls) != 3 {
		t.Fatalf("%+v", profile)
	}
	// Threads are made by clone without a new namespace; C libraries use it if clone3 is not there.
	allowed, clone, clone3 := profile.Syscalls[0], profile.Syscalls[1], profile.Syscalls[2]
	if allowed.Action != specs.ActAllow || len(allowed.Args) != 0 || !slices.IsSorted(allowed.Names) {
		t.Errorf("%+v", allowed)
	}
	const namespaces = 0x7e020000
	if !slices.Equal(clone.Names, []string{"clone"}) || len(clone.Args) != 1 || clone.Args[0].Op != specs.OpMaskedEqual ||
		clone.Args[0].Value != namespaces || clone.Args[0].ValueTwo != 0 {
		t.Errorf("%+v", clone)
	}
	if !slices.Equal(clone3.Names, []string{"clone3"}) || clone3.Action != specs.ActErrno || *clone3.ErrnoRet != 38 {
		t.Errorf("%+v", clone3)
	}
	for _, name := range []string{"bpf", "mount", "ptrace", "setns", "unshare", "io_uring_setup", "init_module"} {
		if slices.Contains(allowed.Names, name) {
			t.Errorf("%s is allowed", name)
		}
	}
}

// A thread is made by clone3, or by clone where that is not there.
func TestTheSeccompProfileAllowsTheSystemCallsOfTheProxy(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deploy, "components/seccomp/meridio-proxy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var profile specs.LinuxSeccomp
	if err := json.Unmarshal(text, &profile); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("syscalls.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, names, _ := strings.Cut(string(list), "\n")
	used := strings.Fields(names)
	if len(used) < 50 {
		t.Fatalf("only %d system calls are listed", len(used))
	}
	for _, name := range used {
		if !slices.Contains(profile.Syscalls[0].Names, name) {
			t.Errorf("the proxy makes the system call %s, which is not allowed", name)
		}
	}
}
