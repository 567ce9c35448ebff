// usage: cyclonus [flags]: runs cyclonus' cases against the cluster of KUBECONFIG, judged by its own simulator. Its packages
// do all of it; its own command line is not used because it offers no batch mode (a table is 324 exec requests there, and 9
// here), and because it ends with 0 whatever it finds.
//
// Everything that cyclonus says goes to standard output, for a log; progress and results go to standard error.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	"github.com/sirupsen/logrus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// What cyclonus' own command line makes too; SCTP is what a kernel without its sockets cannot serve.
var (
	namespaces = []string{"x", "y", "z"}
	pods       = []string{"a", "b", "c"}
	ports      = []int{80, 81}
	protocols  = []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP}
)

const (
	batch = true
	// For an exec request each, which a batch does not make; a batch's worker gives each connection one second, twice.
	jobTimeoutSeconds  = 1
	podDeadlineSeconds = 300
)

type options struct {
	include, exclude []string
	// Which of the cases with these tags, counted from one; all of them if none is named.
	numbers       []int
	wait, retries int
	table         string
	list          bool
}

func main() {
	options, err := parse()
	if err == nil {
		err = run(options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cyclonus:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	include := flag.String("include", "", "tags: only cases with one of them")
	exclude := flag.String("exclude", "sctp", "tags: no case with one of them")
	flag.IntVar(&o.wait, "wait", 2, "seconds between a change and the first table, for the network to follow")
	numbers := flag.String("case", "", "numbers of cases in the table: only these")
	flag.IntVar(&o.retries, "retries", 3, "how often a wrong table is made again; a case that needs it is marked")
	flag.StringVar(&o.table, "table", "", "write the table of cases to this file, as Markdown")
	flag.BoolVar(&o.list, "list", false, "only say which cases there are")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	words := func(text string) []string {
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	}
	o.include, o.exclude = words(*include), words(*exclude)
	for _, text := range words(*numbers) {
		number, err := strconv.Atoi(text)
		if err != nil {
			return o, fmt.Errorf("--case: %q is not a number", text)
		}
		o.numbers = append(o.numbers, number)
	}
	return o, generator.ValidateTags(append(append([]string{}, o.include...), o.exclude...))
}

func run(o options) error {
	if o.list {
		for _, c := range cases(o, "10.0.0.1") {
			fmt.Printf("%d %s [%s]\n", c.number, c.Description, strings.Join(c.Tags.Keys(), " "))
		}
		return nil
	}
	logrus.SetOutput(os.Stdout)
	cluster, err := connect()
	if err != nil {
		return err
	}
	resources, err := probe.NewDefaultResources(
		cluster, namespaces, pods, ports, protocols, nil, podDeadlineSeconds, batch, "")
	if err != nil {
		return err
	}
	if err := sayWhere(cluster); err != nil {
		return err
	}
	pod, err := resources.GetPod("z", "c")
	if err != nil {
		return err
	}
	interpreter := connectivity.NewInterpreter(cluster, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		KubeProbeRetries:                 o.retries,
		PerturbationWaitSeconds:          o.wait,
		VerifyClusterStateBeforeTestCase: true,
		BatchJobs:                        batch,
		JobTimeoutSeconds:                jobTimeoutSeconds,
	})
	return judge(interpreter, cases(o, pod.IP), o.table)
}

// A case and its number among those with the wanted tags.
type numbered struct {
	number int
	*generator.TestCase
}

// cases are those that the options ask for. Their blocks of addresses are made from the address of the pod z/c.
func cases(o options, address string) []numbered {
	var cases []numbered
	generator := generator.NewTestCaseGenerator(true, address, namespaces, o.include, o.exclude)
	for i, c := range generator.GenerateTestCases() {
		if len(o.numbers) == 0 || slices.Contains(o.numbers, i+1) {
			cases = append(cases, numbered{i + 1, c})
		}
	}
	return cases
}

// connect is cyclonus' own, but for the client's limit of five requests a second, which takes five seconds of every case.
func connect() (*kube.Kubernetes, error) {
	cluster, err := kube.NewKubernetesForContext("")
	if err != nil {
		return nil, err
	}
	cluster.RestConfig.QPS, cluster.RestConfig.Burst = 100, 100
	cluster.ClientSet, err = kubernetes.NewForConfig(cluster.RestConfig)
	return cluster, err
}

func judge(interpreter *connectivity.Interpreter, cases []numbered, table string) error {
	if len(cases) == 0 {
		return fmt.Errorf("no case has these tags and numbers")
	}
	printer := &connectivity.Printer{}
	var verdicts []verdict
	start := time.Now()
	for i, c := range cases {
		began := time.Now()
		result := interpreter.ExecuteTestCase(c.TestCase)
		printer.PrintTestCaseResult(result)
		verdict := newVerdict(c.number, result)
		verdicts = append(verdicts, verdict)
		fmt.Fprintf(os.Stderr, "… %3d/%d %5.1f s  %s\n", i+1, len(cases), time.Since(began).Seconds(), verdict)
	}
	printer.PrintSummary()
	text := render(verdicts)
	fmt.Print(text)
	if table != "" {
		if err := os.WriteFile(table, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return summarize(verdicts, time.Since(start))
}

// sayWhere prints which node each pod is on: pairs within a node and across nodes are both wanted.
func sayWhere(cluster *kube.Kubernetes) error {
	list, err := kube.GetPodsInNamespaces(cluster, namespaces)
	if err != nil {
		return err
	}
	nodes := map[string][]string{}
	for _, pod := range list {
		nodes[pod.Spec.NodeName] = append(nodes[pod.Spec.NodeName], pod.Namespace+"/"+pod.Name)
	}
	within, across := 0, 0
	for node, there := range nodes {
		fmt.Fprintf(os.Stderr, "… %s: pods %s\n", node, strings.Join(there, ", "))
		within += len(there) * (len(there) - 1)
		across += len(there) * (len(list) - len(there))
	}
	fmt.Fprintf(os.Stderr, "… %d pairs within a node, %d across, %d pods to themselves\n", within, across, len(list))
	if within == 0 || across == 0 {
		return fmt.Errorf("pairs within a node and across nodes are both wanted")
	}
	return nil
}
