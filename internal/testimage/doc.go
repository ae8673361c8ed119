// Package testimage makes container images for tests: a source OCI image and its Nydus twin, converted by the real
// nydus-image 2.2.0 into the shape that nydusify and nydus-snapshotter give.
//
//	oci := testimage.BuildOCI(t, testimage.Odd(t))
//	nydus := testimage.Convert(t, oci, testimage.ConvertOptions{FSVersion: "6"})
//	testimage.Push(t, registry.Host()+"/odd:nydus", nydus)
//	root := testimage.Mount(t, nydus.BootstrapPath, nydus.BlobDir)
//
// A Spec is a list of layers and a config; a Layer is a list of files as a tar holds them, whiteouts included. Specs
// with real content (Debian, DebianApp, Tiny) take it from the ordinary package managers once and keep it.
//
// Everything that costs time is kept on disk under CacheDir, keyed by a hash of what it is made from, so a second run
// of a test builds nothing. Files in there are shared between tests and processes: read them, never write them.
//
// Every function fails the test that it is given where it cannot do its work. The package never imports Trivy.
package testimage
