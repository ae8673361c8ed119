//go:build !linux && !darwin

package main

// ownTempFolder does nothing: what a killed process leaves stays, as Trivy's own does.
func ownTempFolder() (remove func()) { return func() {} }
