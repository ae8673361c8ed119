// Package testterminal is a terminal for tests: what programs show on it, and what is
// typed at it.
package testterminal
