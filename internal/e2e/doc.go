// Package e2e holds tests that run the built commands, bin/trivy-nydus and the
// real bin/trivy, on images in a real registry. `make test` builds both first.
package e2e
