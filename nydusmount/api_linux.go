package nydusmount

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// apiTimeout bounds one question to nydusd, which answers from memory.
const apiTimeout = 2 * time.Second

// ask puts a question to the API of the nydusd of a run folder.
func ask(ctx context.Context, folder, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer dir.Close()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// A socket's address has 107 bytes at most, a path can be longer.
			return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), apiSocket))
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nydusd"+path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("nydusd answers %s to %s", resp.Status, path)
	}
	return json.Unmarshal(body, answer)
}

// running says whether nydusd says of itself that it serves.
func running(ctx context.Context, folder string) bool {
	var daemon struct{ State string }
	return ask(ctx, folder, "/api/v1/daemon", &daemon) == nil && daemon.State == "RUNNING"
}

// traffic asks nydusd what it has read of its backend.
func traffic(ctx context.Context, folder string) (requests, bytes int64) {
	var backend struct {
		Requests int64 `json:"read_count"`
		Bytes    int64 `json:"read_amount_total"`
	}
	if ask(ctx, folder, "/api/v1/metrics/backend", &backend) != nil {
		return 0, 0
	}
	return backend.Requests, backend.Bytes
}
