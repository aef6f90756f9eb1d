package check

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	kubernetesDir = "../kubernetes"
	namespace     = "twofold"
)

// services is the five processes.
func services() []string { return []string{"auth", "gateway", "notifier", "policy", "session"} }

// calls is who calls whom, as docs/architecture.md draws it.
func calls() map[string][]string {
	return map[string][]string{
		"session": nil, "policy": {"session"}, "auth": {"policy", "session"}, "notifier": {"auth", "session"},
		"gateway": {"auth", "notifier", "policy", "session"},
	}
}

// manifests is what kustomize makes of the base, and the Secrets that the platform
// brings, by name.
type manifests struct {
	configMaps      map[string]*corev1.ConfigMap
	secrets         map[string]*corev1.Secret
	services        map[string]*corev1.Service
	accounts        map[string]*corev1.ServiceAccount
	deployments     map[string]*appsv1.Deployment
	budgets         map[string]*policyv1.PodDisruptionBudget
	networkPolicies map[string]*networkingv1.NetworkPolicy
}

func load(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{
		map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}, map[string]*corev1.Service{}, map[string]*corev1.ServiceAccount{},
		map[string]*appsv1.Deployment{}, map[string]*policyv1.PodDisruptionBudget{}, map[string]*networkingv1.NetworkPolicy{},
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), kubernetesDir)
	require.NoError(t, err)
	for _, resource := range built.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		m.add(t, decode(t, text))
	}
	for _, text := range documents(t, "optional/secrets.yaml") {
		m.add(t, decode(t, text))
	}
	for _, certificate := range certificates(t) {
		// What cert-manager puts into the Secret it makes.
		m.secrets[certificate.Spec.SecretName] = &corev1.Secret{StringData: map[string]string{"tls.crt": "", "tls.key": "", "ca.crt": ""}}
	}
	return m
}

func (m *manifests) add(t *testing.T, object runtime.Object) {
	t.Helper()
	meta, ok := object.(metav1.Object)
	require.True(t, ok)
	if _, ok := object.(*corev1.Namespace); ok {
		require.Equal(t, namespace, meta.GetName())
		return
	}
	require.Equal(t, namespace, meta.GetNamespace(), "%T %s", object, meta.GetName())
	switch o := object.(type) {
	case *corev1.ConfigMap:
		m.configMaps[o.Name] = o
	case *corev1.Secret:
		m.secrets[o.Name] = o
	case *corev1.Service:
		m.services[o.Name] = o
	case *corev1.ServiceAccount:
		m.accounts[o.Name] = o
	case *appsv1.Deployment:
		m.deployments[o.Name] = o
	case *policyv1.PodDisruptionBudget:
		m.budgets[o.Name] = o
	case *networkingv1.NetworkPolicy:
		m.networkPolicies[o.Name] = o
	default:
		require.Failf(t, "nobody expected this", "%T %s", o, meta.GetName())
	}
}

// decode reads a manifest strictly into its type of the Kubernetes API: a field
// that does not exist, or is there twice, is an error.
func decode(t *testing.T, text []byte) runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, networkingv1.AddToScheme,
	} {
		require.NoError(t, add(scheme))
	}
	object, _, err := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer().Decode(text, nil, nil)
	require.NoError(t, err, "%s", text)
	return object
}

// documents returns the documents of a file.
func documents(t *testing.T, name string) (texts [][]byte) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(kubernetesDir, name))
	require.NoError(t, err)
	for part := range bytes.SplitSeq(content, []byte("\n---\n")) {
		texts = append(texts, part)
	}
	return texts
}

// certificate is the part of cert-manager's Certificate that matters here.
type certificate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		SecretName  string            `json:"secretName"`
		URIs        []string          `json:"uris"`
		Usages      []string          `json:"usages"`
		Duration    metav1.Duration   `json:"duration"`
		RenewBefore metav1.Duration   `json:"renewBefore"`
		PrivateKey  map[string]any    `json:"privateKey"`
		IssuerRef   map[string]string `json:"issuerRef"`
	} `json:"spec"`
}

func certificates(t *testing.T) (all []certificate) {
	t.Helper()
	for _, text := range documents(t, "optional/certificates.yaml") {
		var c certificate
		require.NoError(t, yaml.UnmarshalStrict(text, &c), "%s", text)
		all = append(all, c)
	}
	return all
}

// As written, not only as kustomize passes it on; and no file is left out.
func TestKubernetes_everyFileDecodesStrictly(t *testing.T) {
	var kustomization struct {
		APIVersion, Kind, Namespace string
		Resources                   []string
	}
	require.NoError(t, yaml.UnmarshalStrict(documents(t, "kustomization.yaml")[0], &kustomization))
	paths, err := filepath.Glob(kubernetesDir + "/*.yaml")
	require.NoError(t, err)
	for _, path := range paths {
		name := filepath.Base(path)
		if name == "kustomization.yaml" {
			continue
		}
		require.Contains(t, kustomization.Resources, name)
		for _, text := range documents(t, name) {
			decode(t, text)
		}
	}
	require.Len(t, paths, len(kustomization.Resources)+1)
}

func TestKubernetes_hasTheFiveServices(t *testing.T) {
	m := load(t)
	require.Equal(t, services(), sortedKeys(m.deployments))
	require.Equal(t, services(), sortedKeys(m.services))
	require.Equal(t, services(), sortedKeys(m.accounts))
	require.Equal(t, services(), sortedKeys(m.budgets))
	for name, deployment := range m.deployments {
		labels := deployment.Spec.Template.Labels
		require.Subset(t, labels, m.services[name].Spec.Selector, name)
		require.Equal(t, labels, deployment.Spec.Selector.MatchLabels, name)
		require.Equal(t, labels, m.budgets[name].Spec.Selector.MatchLabels, name)
		require.Equal(t, labels, deployment.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels, name)
		// More copies than may be away at a time.
		require.Greater(t, int(*deployment.Spec.Replicas), m.budgets[name].Spec.MaxUnavailable.IntValue(), name)
		// Clients of gRPC see every replica. The gateway is for HTTP.
		require.Equal(t, name != "gateway", m.services[name].Spec.ClusterIP == corev1.ClusterIPNone, name)
		require.Equal(t, name, deployment.Spec.Template.Spec.ServiceAccountName)
		require.False(t, *m.accounts[name].AutomountServiceAccountToken)
	}
}

func TestKubernetes_podsMayDoNothingTheyNeedNot(t *testing.T) {
	for name, deployment := range load(t).deployments {
		pod := deployment.Spec.Template.Spec
		require.False(t, *pod.AutomountServiceAccountToken, name)
		require.False(t, *pod.EnableServiceLinks, name)
		require.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC, name)
		require.True(t, *pod.SecurityContext.RunAsNonRoot, name)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type, name)
		require.Equal(t, *pod.SecurityContext.RunAsGroup, *pod.SecurityContext.FSGroup, "%s reads its Secrets by its group", name)
		require.Empty(t, pod.InitContainers, name)
		require.Len(t, pod.Containers, 1, name)
		c := pod.Containers[0]
		require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
		require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, name)
		require.Nil(t, c.SecurityContext.Privileged, name)
		require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, name)
		require.Empty(t, c.SecurityContext.Capabilities.Add, name)
		require.Regexp(t, `^twofold/`+name+`:[0-9]`, c.Image)
	}
}

func TestKubernetes_containersHaveLimitsAndProbes(t *testing.T) {
	for name, deployment := range load(t).deployments {
		pod := deployment.Spec.Template.Spec
		c := pod.Containers[0]
		for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[resource], c.Resources.Limits[resource]
			require.Positive(t, request.Sign(), "%s %s", name, resource)
			require.GreaterOrEqual(t, limit.Cmp(request), 0, "%s %s", name, resource)
		}
		for path, probes := range map[string][]*corev1.Probe{"/healthz": {c.StartupProbe, c.LivenessProbe}, "/readyz": {c.ReadinessProbe}} {
			for _, probe := range probes {
				require.Equal(t, path, probe.HTTPGet.Path, name)
				require.Equal(t, "metrics", probe.HTTPGet.Port.StrVal, name)
			}
		}
	}
}

// A process has the time to stop that it takes, and says that it stops for long
// enough that a readiness probe and the endpoints have the chance to notice.
func TestKubernetes_podsHaveTheTimeToStop(t *testing.T) {
	m := load(t)
	for name, deployment := range m.deployments {
		env := environment(t, m, deployment, nil)
		delay, err := time.ParseDuration(env["TWOFOLD_SHUTDOWN_DELAY"])
		require.NoError(t, err, name)
		timeout, err := time.ParseDuration(env["TWOFOLD_SHUTDOWN_TIMEOUT"])
		require.NoError(t, err, name)
		pod := deployment.Spec.Template.Spec
		grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
		require.GreaterOrEqual(t, grace, delay+timeout+5*time.Second, name)
		require.GreaterOrEqual(t, delay, time.Duration(pod.Containers[0].ReadinessProbe.PeriodSeconds)*time.Second, name)
		require.Nil(t, pod.Containers[0].Lifecycle, "%s waits by itself", name)
	}
}

// Every reference leads to a key, every Secret's key is used, and files are
// mounted whole, so that new ones arrive in running processes.
func TestKubernetes_referencesLeadSomewhere(t *testing.T) {
	m := load(t)
	used := map[string]bool{}
	hasSecret := func(secret, key, by string) {
		require.Contains(t, m.secrets, secret, by)
		require.Contains(t, m.secrets[secret].StringData, key, "%s in %s", by, secret)
		used[secret+"/"+key] = true
	}
	for name, deployment := range m.deployments {
		environment(t, m, deployment, func(secret, key string) string { hasSecret(secret, key, name); return "" })
		pod := deployment.Spec.Template.Spec
		mounted := map[string]string{} // volume to path
		for _, mount := range pod.Containers[0].VolumeMounts {
			require.True(t, mount.ReadOnly, name)
			require.Empty(t, mount.SubPath, name)
			mounted[mount.Name] = mount.MountPath
		}
		files := map[string]string{} // path to Secret/key
		for _, volume := range pod.Volumes {
			require.Contains(t, mounted, volume.Name, name)
			require.NotNil(t, volume.Secret, "%s: %s", name, volume.Name)
			require.EqualValues(t, 0o440, *volume.Secret.DefaultMode, name)
			require.Contains(t, m.secrets, volume.Secret.SecretName, name)
			for key := range m.secrets[volume.Secret.SecretName].StringData {
				files[mounted[volume.Name]+"/"+key] = volume.Secret.SecretName + "/" + key
			}
		}
		require.Len(t, mounted, len(pod.Volumes), name)
		for variable, path := range environment(t, m, deployment, nil) {
			if strings.HasPrefix(variable, "TWOFOLD_TLS_") || variable == "TWOFOLD_KEYS_FILE" {
				require.Contains(t, files, path, "%s %s", name, variable)
				used[files[path]] = true
			}
		}
		require.True(t, used["twofold-"+name+"-tls/tls.key"], "%s has a certificate of its own", name)
	}
	for name, secret := range m.secrets {
		for key := range secret.StringData {
			require.True(t, used[name+"/"+key] || name == "twofold-platform-tls", "nobody uses %s of %s", key, name)
		}
	}
}

// environment returns the environment of a Deployment's container. secret says
// what a key of a Secret holds; nil stands for what the example holds.
func environment(t *testing.T, m *manifests, deployment *appsv1.Deployment, secret func(name, key string) string) map[string]string {
	t.Helper()
	if secret == nil {
		secret = func(name, key string) string { return m.secrets[name].StringData[key] }
	}
	env := map[string]string{}
	c := deployment.Spec.Template.Spec.Containers[0]
	for _, source := range c.EnvFrom {
		require.Contains(t, m.configMaps, source.ConfigMapRef.Name)
		for name, value := range m.configMaps[source.ConfigMapRef.Name].Data {
			env[name] = value
		}
	}
	for _, variable := range c.Env {
		require.NotContains(t, env, variable.Name, "set twice")
		env[variable.Name] = variable.Value
		if variable.ValueFrom != nil {
			env[variable.Name] = secret(variable.ValueFrom.SecretKeyRef.Name, variable.ValueFrom.SecretKeyRef.Key)
		}
	}
	return env
}

func TestKubernetes_certificatesNameTheirIdentity(t *testing.T) {
	var names []string
	for _, c := range certificates(t) {
		name := strings.TrimPrefix(c.Name, "twofold-")
		names = append(names, name)
		require.Equal(t, "cert-manager.io/v1 Certificate", c.APIVersion+" "+c.Kind)
		require.Equal(t, namespace, c.Namespace)
		require.Equal(t, "twofold-"+name+"-tls", c.Spec.SecretName)
		require.Equal(t, []string{"spiffe://twofold/" + name}, c.Spec.URIs)
		require.Contains(t, c.Spec.Usages, "server auth")
		require.Contains(t, c.Spec.Usages, "client auth")
		require.Greater(t, c.Spec.Duration.Duration, 2*c.Spec.RenewBefore.Duration)
	}
	require.Equal(t, append([]string{"platform"}, services()...), sorted(names, "platform"))
}

// sorted returns names in order, with first before all others.
func sorted(names []string, first string) []string {
	slices.Sort(names)
	i := slices.Index(names, first)
	return append([]string{first}, slices.Delete(names, i, i+1)...)
}

func sortedKeys[V any](values map[string]V) (keys []string) {
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
