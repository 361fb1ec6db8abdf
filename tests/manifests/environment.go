// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// fields that the kubelet reads from the pod.
func fields(set appsv1.DaemonSet) map[string]string {
	namespace := set.Namespace
	if namespace == "" {
		namespace = "red"
	}
	return map[string]string{
		"metadata.name":      set.Name + "-x7k2p",
		"metadata.namespace": namespace,
		"spec.nodeName":      "worker-1",
	}
}

// Environment is the environment that the kubelet makes for the first container, as lines `NAME=value`.
func Environment(set appsv1.DaemonSet, config corev1.ConfigMap) ([]string, error) {
	var lines []string
	known := map[string]string{}
	for _, variable := range set.Spec.Template.Spec.Containers[0].Env {
		value, err := value(variable, fields(set), config)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variable.Name, err)
		}
		value = expansion.Expand(value, expansion.MappingFuncFor(known))
		if strings.Contains(value, "$(") {
			return nil, fmt.Errorf("%s=%s names a variable that is not before it", variable.Name, value)
		}
		if _, twice := known[variable.Name]; twice {
			return nil, fmt.Errorf("%s is set twice", variable.Name)
		}
		known[variable.Name] = value
		lines = append(lines, variable.Name+"="+value)
	}
	return lines, nil
}

// value is the value of a variable before its names are expanded.
func value(variable corev1.EnvVar, fields map[string]string, config corev1.ConfigMap) (string, error) {
	from := variable.ValueFrom
	switch {
	case from == nil:
		return variable.Value, nil
	case from.FieldRef != nil:
		if value, known := fields[from.FieldRef.FieldPath]; known {
			return value, nil
		}
		return "", fmt.Errorf("field %s", from.FieldRef.FieldPath)
	case from.ConfigMapKeyRef != nil:
		if value, known := config.Data[from.ConfigMapKeyRef.Key]; known {
			return value, nil
		}
		return "", fmt.Errorf("key %s of the ConfigMap", from.ConfigMapKeyRef.Key)
	}
	return "", fmt.Errorf("source %s", from)
}
