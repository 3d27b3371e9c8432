//go:build !model

package model

// large adds nothing without the build tag model.
func large() []Bounds { return nil }

// walks is how many random walks are taken.
const walks = 1000
