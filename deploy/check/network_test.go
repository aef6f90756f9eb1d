package check

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

const component = "app.kubernetes.io/component"

// Addresses in the environment lead through a Service to the port on which the
// callee listens, and name just the services that the architecture lets it call.
func TestKubernetes_addressesLeadToListeners(t *testing.T) {
	m := load(t)
	listens := func(service, variable string) int32 {
		return portOf(t, environment(t, m, m.deployments[service], nil)[variable])
	}
	for name, deployment := range m.deployments {
		c := deployment.Spec.Template.Spec.Containers[0]
		ports := map[string]int32{}
		for _, port := range c.Ports {
			ports[port.Name] = port.ContainerPort
		}
		want := map[string]int32{"grpc": listens(name, "TWOFOLD_GRPC_ADDR"), "metrics": listens(name, "TWOFOLD_METRICS_ADDR")}
		if name == "gateway" {
			want["http"] = listens(name, "TWOFOLD_HTTP_ADDR")
		}
		require.Equal(t, want, ports, name)
		for _, port := range m.services[name].Spec.Ports {
			require.Contains(t, ports, port.TargetPort.StrVal, name)
		}
		require.Equal(t, calls()[name], callees(t, environment(t, m, deployment, nil), func(host string, port int32) {
			require.True(t, slices.ContainsFunc(m.services[host].Spec.Ports, func(p corev1.ServicePort) bool {
				return p.Port == port && p.TargetPort.StrVal == "grpc" &&
					(m.services[host].Spec.ClusterIP != corev1.ClusterIPNone || port == listens(host, "TWOFOLD_GRPC_ADDR"))
			}), "%s calls %s:%d", name, host, port)
		}), name)
	}
}

// callees returns the services whose addresses are in an environment, sorted.
func callees(t *testing.T, env map[string]string, each func(host string, port int32)) (names []string) {
	t.Helper()
	for _, name := range services() {
		addr, ok := env["TWOFOLD_"+strings.ToUpper(name)+"_ADDR"]
		if !ok {
			continue
		}
		host, _, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		require.Equal(t, name, host)
		each(host, portOf(t, addr))
		names = append(names, name)
	}
	return names
}

func portOf(t *testing.T, addr string) int32 {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	port, err := strconv.ParseInt(text, 10, 32)
	require.NoError(t, err)
	return int32(port)
}

func TestKubernetes_networkPoliciesAreTheArrows(t *testing.T) {
	m := load(t)
	require.ElementsMatch(t, append(services(), "default-deny", "names", "traces"), sortedKeys(m.networkPolicies))
	deny := m.networkPolicies["default-deny"].Spec
	require.Empty(t, deny.PodSelector.MatchLabels)
	require.Len(t, deny.PolicyTypes, 2)
	require.Empty(t, deny.Ingress)
	require.Empty(t, deny.Egress)
	traces := m.networkPolicies["traces"].Spec
	require.Equal(t, []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, traces.PolicyTypes)
	require.Len(t, traces.Egress, 1)
	collector := arrows{}
	collector.add(t, traces.Egress[0].To, traces.Egress[0].Ports)
	require.Equal(t, arrows{4318: {"monitoring"}}, collector)

	callers := map[string][]string{}
	for caller, callees := range calls() {
		for _, callee := range callees {
			callers[callee] = append(callers[callee], caller)
		}
	}
	stores := map[string][]int32{
		"session": {4222, 6379}, "policy": {4222, 5432}, "auth": {4222, 5432}, "notifier": {465, 587, 4222, 5432}, "gateway": nil,
	}
	for _, name := range services() {
		spec := m.networkPolicies[name].Spec
		require.Equal(t, m.deployments[name].Spec.Template.Labels, spec.PodSelector.MatchLabels)
		require.Len(t, spec.PolicyTypes, 2)
		in, out := arrows{}, arrows{}
		for _, rule := range spec.Ingress {
			in.add(t, rule.From, rule.Ports)
		}
		for _, rule := range spec.Egress {
			out.add(t, rule.To, rule.Ports)
		}
		slices.Sort(callers[name])
		wantIn := arrows{9090: append(callers[name], "clients"), 9100: {"monitoring"}}
		if name == "gateway" {
			wantIn[8080] = []string{"anybody"}
		}
		wantOut := arrows{}
		if len(calls()[name]) > 0 {
			wantOut[9090] = calls()[name]
		}
		for _, port := range stores[name] {
			wantOut[port] = []string{"anybody"}
		}
		require.Equal(t, wantIn, in.sorted(), "into %s", name)
		require.Equal(t, wantOut, out.sorted(), "out of %s", name)
	}
}

// arrows is who may be at the other end, by port.
type arrows map[int32][]string

func (a arrows) add(t *testing.T, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	t.Helper()
	require.NotEmpty(t, ports, "a rule for all ports")
	for _, port := range ports {
		require.Equal(t, corev1.ProtocolTCP, *port.Protocol)
		if len(peers) == 0 {
			a[port.Port.IntVal] = append(a[port.Port.IntVal], "anybody")
		}
		for _, peer := range peers {
			a[port.Port.IntVal] = append(a[port.Port.IntVal], nameOf(t, peer))
		}
	}
}

func nameOf(t *testing.T, peer networkingv1.NetworkPolicyPeer) string {
	t.Helper()
	switch pods, spaces := peer.PodSelector, peer.NamespaceSelector; {
	case spaces == nil && pods.MatchLabels["app.kubernetes.io/name"] == "twofold" && len(pods.MatchLabels) == 2:
		return pods.MatchLabels[component]
	case spaces != nil && pods != nil && len(spaces.MatchLabels) == 0 && maps.Equal(pods.MatchLabels, map[string]string{"twofold-client": "true"}):
		return "clients"
	case spaces != nil && pods == nil && spaces.MatchLabels["kubernetes.io/metadata.name"] == "monitoring":
		return "monitoring"
	}
	require.Failf(t, "nobody expected this peer", "%+v", peer)
	return ""
}

// sorted puts peers in order, clients last.
func (a arrows) sorted() arrows {
	for _, names := range a {
		slices.SortFunc(names, func(x, y string) int {
			if last := "clients"; x == last || y == last {
				return boolToInt(x == last) - boolToInt(y == last)
			}
			return strings.Compare(x, y)
		})
	}
	return a
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
