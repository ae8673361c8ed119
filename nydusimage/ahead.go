package nydusimage

import (
	"context"
	"errors"
)

// An ahead is the bootstrap layer on its way: it is fetched beside the config, to
// save a round trip.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{} // closed once data or err is set
	data   []byte
	err    error
}

// fetchAhead begins to fetch the bootstrap layer, unless it is kept. What is kept
// of an image says that it was read before, and may not be wanted again.
func (i *Image) fetchAhead(ctx context.Context) {
	if i.Metadata.Has(kindBootstrap, i.BootstrapLayer.Digest.String()) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{cancel: cancel, done: make(chan struct{})}
	i.closers.add(a)
	i.ahead = a
	layer := i.BootstrapLayer
	go func() {
		defer close(a.done)
		a.data, a.err = i.readBootstrapLayer(ctx, layer)
	}()
}

// Close ends the fetch and waits for it.
func (a *ahead) Close() error {
	a.cancel()
	<-a.done
	return nil
}

// bootstrapLayer returns the bootstrap layer as stored, verified.
func (i *Image) bootstrapLayer(ctx context.Context) ([]byte, error) {
	a := i.ahead
	if a == nil {
		return i.readBootstrapLayer(ctx, i.BootstrapLayer)
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if errors.Is(a.err, context.Canceled) && ctx.Err() == nil {
		return i.readBootstrapLayer(ctx, i.BootstrapLayer) // the context in which the image was opened has ended
	}
	return a.data, a.err
}
