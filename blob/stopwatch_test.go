package blob

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStopwatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Stopwatch
		first := s.Start()
		time.Sleep(time.Second)
		second := s.Start() // beside the first: counts once
		time.Sleep(time.Second)
		first()
		first()
		time.Sleep(time.Second)
		assert.Equal(t, 3*time.Second, s.Elapsed(), "while it runs")
		second()
		time.Sleep(time.Second)
		assert.Equal(t, 3*time.Second, s.Elapsed(), "while nothing is under way")
		third := s.Start()
		time.Sleep(time.Second)
		third()
		assert.Equal(t, 4*time.Second, s.Elapsed())
	})
}
