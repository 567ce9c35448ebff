package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
)

// Answers of one table that are not the model's.
type wrong struct {
	// Got through and should not have.
	allowed int
	// Did not get through and should have: stopped, or too slow for cyclonus' second.
	blocked int
	// Could not be asked, because the exec request failed.
	unasked int
}

func (w wrong) sum() int { return w.allowed + w.blocked + w.unasked }

func (w wrong) add(more wrong) wrong {
	return wrong{w.allowed + more.allowed, w.blocked + more.blocked, w.unasked + more.unasked}
}

func (w wrong) String() string {
	var parts []string
	for _, part := range []struct {
		count int
		what  string
	}{{w.allowed, "allowed"}, {w.blocked, "blocked"}, {w.unasked, "not asked"}} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.what))
		}
	}
	return strings.Join(parts, ", ") + " wrongly"
}

// compare counts the wrong answers of a table, and all.
func compare(table *connectivity.ComparisonTable) (wrong, int) {
	var w wrong
	all := 0
	for _, pair := range table.Wrapped.Keys() {
		item := table.Get(pair.From, pair.To)
		for key, expected := range item.Simulated.JobResults {
			all++
			switch got := item.Kube.JobResults[key].Combined; {
			case got == expected.Combined:
			case got == probe.ConnectivityCheckFailed:
				w.unasked++
			case got == probe.ConnectivityAllowed:
				w.allowed++
			default:
				w.blocked++
			}
		}
	}
	return w, all
}

// What became of a case.
type verdict struct {
	number      int
	description string
	// Tags without those that only group others.
	tags  []string
	steps int
	// Answers of the last tables of the steps, and what was wrong in them and in those before.
	probes       int
	last, before wrong
	// The most tables that a step took.
	tries int
	// Why the case could not be carried out.
	err error
}

func newVerdict(number int, result *connectivity.Result) verdict {
	v := verdict{
		number:      number,
		description: result.TestCase.Description,
		steps:       len(result.TestCase.Steps),
		err:         result.Err,
	}
	for _, tags := range result.TestCase.Tags.GroupTags() {
		v.tags = append(v.tags, tags...)
	}
	sort.Strings(v.tags)
	for _, step := range result.Steps {
		v.tries = max(v.tries, len(step.KubeProbes))
		for try := range step.KubeProbes {
			wrong, all := compare(step.Comparison(try))
			if try < len(step.KubeProbes)-1 {
				v.before = v.before.add(wrong)
			} else {
				v.last, v.probes = v.last.add(wrong), v.probes+all
			}
		}
	}
	if v.err == nil && len(result.Steps) < v.steps {
		v.err = fmt.Errorf("%d of %d steps were carried out", len(result.Steps), v.steps)
	}
	return v
}

func (v verdict) passed() bool { return v.err == nil && v.last.sum() == 0 }

func (v verdict) result() string {
	switch {
	case v.err != nil:
		return fmt.Sprintf("not carried out: %v", v.err)
	case v.last.sum() > 0:
		return fmt.Sprintf("FAILED: of %d probes %s", v.probes, v.last)
	case v.tries > 1:
		return fmt.Sprintf("passed at try %d; before: %s", v.tries, v.before)
	}
	return "passed"
}

func (v verdict) String() string {
	return fmt.Sprintf("%s: %s [%s]", v.result(), v.description, strings.Join(v.tags, " "))
}

// render is the table of all cases.
func render(verdicts []verdict) string {
	var text strings.Builder
	text.WriteString("| # | case | tags | steps | probes | result |\n|---|---|---|---|---|---|\n")
	for _, v := range verdicts {
		fmt.Fprintf(&text, "| %d | %s | %s | %d | %d | %s |\n",
			v.number, v.description, strings.Join(v.tags, ", "), v.steps, v.probes, v.result())
	}
	return text.String()
}

// summarize prints how many cases of each tag passed, and fails if one did not.
func summarize(verdicts []verdict, took time.Duration) error {
	type count struct{ passed, failed int }
	tags := map[string]*count{}
	var all count
	steps, probes, again := 0, 0, 0
	for _, v := range verdicts {
		steps, probes = steps+v.steps, probes+v.probes
		if v.passed() && v.tries > 1 {
			again++
		}
		counts := []*count{&all}
		for _, tag := range v.tags {
			if tags[tag] == nil {
				tags[tag] = &count{}
			}
			counts = append(counts, tags[tag])
		}
		for _, c := range counts {
			if v.passed() {
				c.passed++
			} else {
				c.failed++
			}
		}
	}
	names := make([]string, 0, len(tags))
	for tag := range tags {
		names = append(names, tag)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "%-28s %6s %6s\n", "tag", "passed", "failed")
	for _, tag := range names {
		fmt.Fprintf(os.Stderr, "%-28s %6d %6d\n", tag, tags[tag].passed, tags[tag].failed)
	}
	fmt.Fprintf(os.Stderr, "cyclonus: %d cases passed (%d not at the first try), %d failed; %d tables of %d answers, %.0f s\n",
		all.passed, again, all.failed, steps, probes, took.Seconds())
	if all.failed == 0 {
		return nil
	}
	for _, v := range verdicts {
		if !v.passed() {
			fmt.Fprintf(os.Stderr, "  %d %s\n", v.number, v)
		}
	}
	return fmt.Errorf("%d of %d cases failed", all.failed, len(verdicts))
}
