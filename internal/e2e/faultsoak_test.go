package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

var (
	soakSeeds = flag.Int("soak-seeds", 40, "random schedules for the large image in TestSoakRandomFaults, for each of its cases")
	soakFault = flag.String("soak-faults", "", "names of the only faults of TestSoakFaults, with commas between")
)

// soakWorkers run at once: most of a soak is waiting.
const soakWorkers = 24

// soak skips a test that takes many minutes, unless make soak runs it.
func soak(t *testing.T) {
	t.Helper()
	if os.Getenv("SOAK") == "" {
		t.Skip("for make soak")
	}
}

// An outcomes table counts what came of experiments, by fault and kind of step.
type outcomes struct {
	mu      sync.Mutex
	counts  map[[2]string]map[string]int
	longest map[string]time.Duration // by fault
}

func (o *outcomes) add(fault, kind, outcome string, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	cell := [2]string{fault, kind}
	if o.counts[cell] == nil {
		o.counts[cell] = make(map[string]int)
	}
	o.counts[cell][outcome]++
	o.longest[fault] = max(o.longest[fault], took)
}

// print writes the table: in a cell, how many reports were right, and how many
// runs ended with exit code 2, of those whose fault went away and of the others.
func (o *outcomes) print() {
	kinds, faults := make(map[string]bool), make(map[string]bool)
	for cell := range o.counts {
		faults[cell[0]], kinds[cell[1]] = true, true
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	columns := slices.Sorted(maps.Keys(kinds))
	fmt.Fprintf(w, "fault\t%s\tlongest\n", strings.Join(columns, "\t"))
	for _, fault := range slices.Sorted(maps.Keys(faults)) {
		fmt.Fprintf(w, "%s", fault)
		for _, kind := range columns {
			var text []string
			for _, outcome := range slices.Sorted(maps.Keys(o.counts[[2]string{fault, kind}])) {
				text = append(text, fmt.Sprintf("%d %s", o.counts[[2]string{fault, kind}][outcome], outcome))
			}
			fmt.Fprintf(w, "\t%s", cmp.Or(strings.Join(text, ", "), "-"))
		}
		fmt.Fprintf(w, "\t%.0f s\n", o.longest[fault].Seconds())
	}
	w.Flush()
}

// TestSoakFaults has every fault at every step of a scan and of a check, of a
// small image in v5 and v6, once and for ever.
func TestSoakFaults(t *testing.T) {
	soak(t)
	registry := testregistry.Start(t)
	image := publishFaulty(t, registry, testimage.Tiny(t))
	lab := newFaultLab(t, registry)
	table := &outcomes{counts: make(map[[2]string]map[string]int), longest: make(map[string]time.Duration)}
	var jobs []func(*faultLab)
	for _, name := range []string{"scan", "check", "check full"} {
		for _, tag := range []string{"v5", "v6"} {
			c := faultCase{name, image.repo, tag}
			want := lab.baseline(t, c)
			for _, fault := range testregistry.Faults {
				if only := strings.Split(*soakFault, ","); *soakFault != "" && !slices.Contains(only, fault.Name) {
					continue
				}
				for _, step := range want.steps {
					if !fault.Fits(step) {
						continue
					}
					for often, times := range map[string]int{"once": 1, "forever": testregistry.Forever} {
						e := experiment{of: c, step: step, fault: fault, times: times}
						jobs = append(jobs, func(l *faultLab) {
							outcome, took := l.experiment(t, e, want)
							table.add(fault.Name+", "+often, image.kind(step), outcome, took)
						})
					}
				}
			}
		}
	}
	t.Logf("%d runs", len(jobs))
	inParallel(t, registry, soakWorkers, jobs)
	table.print()
}

// TestSoakRandomFaults has several faults, each once or twice, that a client gets
// over, in a scan and a check of a large image.
func TestSoakRandomFaults(t *testing.T) {
	soak(t)
	registry := testregistry.Start(t)
	image := publishFaulty(t, registry, testimage.DebianApp(t))
	lab := newFaultLab(t, registry)
	var passing, all []testregistry.Fault
	for _, f := range testregistry.Faults {
		if f.Passes && !f.Slow {
			passing = append(passing, f)
		}
		if !f.Slow {
			all = append(all, f)
		}
	}
	table := &outcomes{counts: make(map[[2]string]map[string]int), longest: make(map[string]time.Duration)}
	var jobs []func(*faultLab)
	for _, name := range []string{"scan", "check"} {
		for _, tag := range []string{"v5", "v6"} {
			c := faultCase{name, image.repo, tag}
			want := lab.baseline(t, c)
			for seed := range uint64(*soakSeeds) {
				jobs = append(jobs, func(l *faultLab) {
					kind, faults, n := "that pass", passing, 4
					if seed%2 == 1 {
						kind, faults, n = "of all kinds", all, 2
					}
					s := testregistry.Random(seed, want.steps, faults, n)
					if s.String() == "" {
						return
					}
					outcome, took, wrong := l.try(c, want, s, seed%2 == 0, slowFault)
					table.add(c.String(), kind, outcome, took)
					for _, w := range wrong {
						t.Errorf("%s, seed %d: %s\n%s", c, seed, w, s)
					}
				})
			}
		}
	}
	inParallel(t, registry, 4, jobs)
	require.NotEmpty(t, table.counts)
	table.print()
}
