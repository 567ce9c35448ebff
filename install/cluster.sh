# What the three scripts share; they source it.
set -euo pipefail
KUBECTL=${KUBECTL:-kubectl} WAIT=${WAIT:-5m}
NAMESPACE=kube-system
# A kubeconfig that was not named is kubectl's own affair.
[ -n "${KUBECONFIG:-}" ] || unset KUBECONFIG

say() { printf '%s %s\n' "$(date +%T)" "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }
# Words of KUBECTL may be options.
# shellcheck disable=SC2086
k() { $KUBECTL "$@"; }

reach_cluster() {
  local problem
  command -v "${KUBECTL%% *}" >/dev/null || die "${KUBECTL%% *} is not installed; give another with KUBECTL=…"
  problem=$(k get --raw /readyz 2>&1 >/dev/null) || die "the cluster does not answer: $problem
Which cluster is asked is said by KUBECONFIG, or by the current context of kubectl."
}

# manifest: the manifest with the image and the families that were asked for.
manifest() {
  [ -f "$MANIFEST" ] || die "MANIFEST=$MANIFEST is not there"
  sed -E "${IMAGE:+s|^( *image: ).*|\1$IMAGE|}" "$MANIFEST" |
    case ${DUAL_STACK:-no} in
      yes) dual_stack ;;
      no) cat ;;
      *) die "DUAL_STACK=$DUAL_STACK is neither yes nor no" ;;
    esac
}

# dual_stack: the manifest on the standard input with IPv6 beside IPv4. Packets of IPv6 pods travel as those of IPv4 ones do,
# but never in IPIP, which has no IPv6.
dual_stack() {
  awk '
    /"ipam": \{"type": "calico-ipam"\}/ {
      sub(/"calico-ipam"/, "\"calico-ipam\", \"assign_ipv4\": \"true\", \"assign_ipv6\": \"true\"")
      addresses++
    }
    set != "" { sub(/value: .*/, "value: \"" set "\""); set = ""; settings++ }
    follow && /value: / { overlay = $NF; follow = 0 }
    /- name: CALICO_IPV4POOL_VXLAN$/ { follow = 1 }
    /- name: CALICO_IPV6POOL_VXLAN$/ { set = overlay }
    /- name: FELIX_IPV6SUPPORT$/ { set = "true" }
    { print }
    # The indentation is that of the line itself.
    /- name: IP$/ { sub(/IP$/, "IP6"); six = $0 }
    /value: autodetect$/ && six != "" { print six; print; six = "" ; settings++ }
    END {
      if (addresses == 1 && settings == 3) exit 0
      print "DUAL_STACK=yes: the manifest is not one of calico.yaml and calico-vxlan.yaml; say in it what docs/install-kubernetes.md, \"Options\", says of IPv6" >"/dev/stderr"
      exit 1
    }'
}

# await KIND NAME NAMESPACE: follows a rollout to its end; where there is none, says what hinders the pods.
await() {
  k rollout status "$1/$2" -n "$3" --timeout "$WAIT" && return 0
  say "$1 $2 is not ready after $WAIT. Its pods:"
  explain "$2" "$3"
  return 1
}

# explain NAME NAMESPACE: for every pod of a workload that is not ready, where it is, what it waits for, its last words.
explain() {
  local pods pod node why
  pods=$(k get pods -n "$2" -o go-template='{{range .items}}{{$pod := .}}{{range .status.conditions}}{{if and (eq .type "Ready") (ne .status "True")}}{{$pod.metadata.name}} {{or $pod.spec.nodeName "-"}}{{"\n"}}{{end}}{{end}}{{if not .status.conditions}}{{.metadata.name}} -{{"\n"}}{{end}}{{end}}' | grep -E "^$1-" || true)
  [ -n "$pods" ] || { echo "  there are none: see kubectl describe -n $2 for $1"; return; }
  while read -r pod node; do
    echo "  $pod on $node"
    k get pod "$pod" -n "$2" -o go-template='{{range .status.initContainerStatuses}}{{if .state.waiting}}    {{.name}}: {{.state.waiting.reason}} {{or .state.waiting.message ""}}{{"\n"}}{{end}}{{end}}{{range .status.containerStatuses}}{{if .state.waiting}}    {{.name}}: {{.state.waiting.reason}} {{or .state.waiting.message ""}}{{"\n"}}{{end}}{{end}}{{range .status.conditions}}{{if and (eq .type "PodScheduled") (ne .status "True")}}    {{.reason}}: {{.message}}{{"\n"}}{{end}}{{end}}'
    # Of a container that ended meanwhile there is nothing to learn.
    k get events -n "$2" --field-selector "involvedObject.name=$pod,type=Warning" --sort-by .lastTimestamp \
      -o go-template='{{range .items}}    {{.reason}}: {{.message}}{{"\n"}}{{end}}' | { grep -vE '^    BackOff:|no running task|container not running' || true; } | uniq | tail -n 3
    why=$(k logs "$pod" -n "$2" --all-containers --prefix --tail 3 2>/dev/null || true)
    [ -z "$why" ] || sed 's/^/    /' <<<"$why"
  done <<<"$pods"
  echo "  More: docs/install-kubernetes.md, \"When a pod is not ready\"."
}
