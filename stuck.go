package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// grace is how long what is to end with a context may take to do so: files are closed
// and nydusd is ended meanwhile.
const grace = 5 * time.Second

// errStuck is wrapped by the error of what did not end with its context.
var errStuck = errors.New("what was under way has not ended")

// endsWith runs do, which is to end with ctx. Trivy's own downloads do not: those are
// left behind, with all that they hold, and end with the process. Nothing else may be
// begun then.
func endsWith(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return fmt.Errorf("%w (%w)", context.Cause(ctx), errStuck)
	}
}
