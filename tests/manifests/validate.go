// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/capabilities"
)

// namespace of objects that name none, as `kubectl apply` fills it in.
const namespace = "default"

var codecs = func() serializer.CodecFactory {
	utilruntime.Must(monitoring.AddToScheme(legacyscheme.Scheme))
	// As on clusters that admit Meridio's init containers.
	capabilities.Setup(true, 0)
	return serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict)
}()

// Validate decodes an object strictly, sets the defaults, and validates it. It returns the object's kind and name.
func Validate(text []byte) (string, error) {
	object, kind, err := codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return "object", err
	}
	if kind.Group != monitoring.SchemeGroupVersion.Group {
		// Kubernetes validates its internal types, with the defaults set.
		if object, _, err = codecs.UniversalDecoder().Decode(text, nil, nil); err != nil {
			return kind.Kind, err
		}
	}
	meta, ok := object.(metav1.Object)
	if !ok {
		return kind.Kind, fmt.Errorf("%T has no metadata", object)
	}
	if meta.GetNamespace() == "" {
		meta.SetNamespace(namespace)
	}
	return kind.Kind + "/" + meta.GetName(), validate(object).ToAggregate()
}

func validate(object runtime.Object) field.ErrorList {
	switch object := object.(type) {
	case *apps.DaemonSet:
		return appsvalidation.ValidateDaemonSet(object, corevalidation.PodValidationOptions{})
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(object)
	case *networking.NetworkPolicy:
		return networkingvalidation.ValidateNetworkPolicy(object, networkingvalidation.NetworkPolicyValidationOptions{})
	case *monitoring.PodMonitor, *monitoring.PrometheusRule:
		// Their schema is that of the types, which strict decoding has applied.
		return validation.ValidateObjectMetaAccessor(object.(metav1.Object), true, validation.NameIsDNSSubdomain, field.NewPath("metadata"))
	default:
		return field.ErrorList{field.NotSupported(field.NewPath("kind"), fmt.Sprintf("%T", object),
			[]string{"DaemonSet", "ConfigMap", "NetworkPolicy", "PodMonitor", "PrometheusRule"})}
	}
}
