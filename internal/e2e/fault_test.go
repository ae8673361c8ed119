package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testimage"
	"github.com/trivy-plugin-nydus/trivy-plugin-nydus/internal/testregistry"
)

// An experiment is one fault at one step.
type experiment struct {
	of    faultCase
	step  testregistry.Step
	fault testregistry.Fault
	times int
	flags []string
}

func (e experiment) String() string {
	often := "once"
	if e.times == testregistry.Forever {
		often = "forever"
	}
	return fmt.Sprintf("%s: %s, %s, at %s", e.of, e.fault.Name, often, e.step)
}

// Bounds for a run: the waits of requests that fail again and again are some 10 s
// together, a stall takes half a minute twice, and a machine may be busy.
const (
	quickFault = time.Minute
	slowFault  = 3 * time.Minute
)

// experiment runs one and tells of what is wrong.
func (l *faultLab) experiment(t *testing.T, e experiment, want *faultBaseline) (outcome string, took time.Duration) {
	within := quickFault
	if e.fault.Slow {
		within = slowFault
	}
	pass := e.times == 1 && len(e.flags) == 0
	outcome, took, wrong := l.try(e.of, want, testregistry.One(e.step, e.fault, e.times), pass, within, e.flags...)
	for _, w := range wrong {
		t.Errorf("%s: %s", e, w)
	}
	return outcome, took
}

// inParallel runs jobs, so many at once, each worker with a lab of its own.
func inParallel(t *testing.T, registry *testregistry.Registry, workers int, jobs []func(*faultLab)) {
	queue := make(chan func(*faultLab), len(jobs))
	for _, job := range jobs {
		queue <- job
	}
	close(queue)
	var all sync.WaitGroup
	for range min(workers, len(jobs)) {
		lab := newFaultLab(t, registry)
		all.Go(func() {
			for job := range queue {
				job(lab)
			}
		})
	}
	all.Wait()
}

// TestFaults has each fault of the catalogue once, which passes where it can, and
// once for ever, at some step of a scan or a check, and two of them at each that they
// are for. make soak has all at every step.
func TestFaults(t *testing.T) {
	t.Parallel()
	registry := testregistry.Start(t)
	image := publishFaulty(t, registry, testimage.Tiny(t))
	lab := newFaultLab(t, registry)
	cases := []faultCase{{"scan", image.repo, "v6"}, {"check", image.repo, "v5"}, {"scan", image.repo, "v5"}, {"check full", image.repo, "v6"}}
	baselines := make(map[faultCase]*faultBaseline)
	for _, c := range cases {
		baselines[c] = lab.baseline(t, c)
	}
	var jobs []func(*faultLab)
	for i, fault := range testregistry.Faults {
		for j, times := range []int{1, testregistry.Forever} {
			e := experiment{of: cases[(i+j)%len(cases)], fault: fault, times: times}
			if fault.Slow {
				// Half a minute is for make soak: here it is told what is waited for.
				if e.times == 1 {
					continue
				}
				e.flags = []string{"--timeout", "2s"}
				if os.Getenv("RACE") != "" { // it takes as long to start
					e.flags = []string{"--timeout", "20s"}
				}
			}
			var fitting []testregistry.Step
			for _, s := range baselines[e.of].steps {
				if fault.Fits(s) {
					fitting = append(fitting, s)
				}
			}
			require.NotEmpty(t, fitting, fault.Name)
			slices.SortFunc(fitting, func(a, b testregistry.Step) int { return strings.Compare(a.String(), b.String()) })
			e.step = fitting[(7*i+3*j)%len(fitting)]
			jobs = append(jobs, func(l *faultLab) { l.experiment(t, e, baselines[e.of]) })
		}
	}
	// What nothing but itself vouches for must not stay in a cache where it came spoiled,
	// and a signed address that was good before may expire.
	expired := 0
	for _, c := range cases {
		for _, step := range baselines[c].steps {
			var faults []testregistry.Fault
			if spoiled := testregistry.FaultNamed("many wrong bytes"); step.Range != "" && spoiled.Fits(step) {
				faults = append(faults, spoiled)
			}
			if step.Kept {
				expired++
				faults = append(faults, testregistry.FaultNamed("403"))
			}
			for _, fault := range faults {
				e := experiment{of: c, step: step, fault: fault, times: 1}
				jobs = append(jobs, func(l *faultLab) { l.experiment(t, e, baselines[c]) })
			}
		}
	}
	require.NotZero(t, expired, "no address was used again")
	inParallel(t, registry, 16, jobs)
	assert.Greater(t, len(jobs), 60)
}
