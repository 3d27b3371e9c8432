//go:build !model

package model

// large adds nothing without the build tag model.
func large() []Bounds { return nil }
