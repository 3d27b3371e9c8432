//go:build model

package model

// large is what `make model` searches as well.
func large() []Bounds {
	return []Bounds{
		{Blocks: 4, Singleton: true},
		{Blocks: 2, Leaves: 1, Admits: 1, Crashes: 1, Singleton: true},
		{Blocks: 2, Leaves: 1, Crashes: 1},
		{Blocks: 2, Fences: 1, Crashes: 1},
		{Blocks: 2, Fences: 2},
		{Blocks: 1, Leaves: 2, Admits: 2, Crashes: 1},
		{Blocks: 2, Leaves: 1, Restores: 1},
		{Blocks: 1, Leaves: 2, Admits: 1, Removes: 1, Restores: 1},
		{Blocks: 3, Crashes: 1},
		{Blocks: 2, Leaves: 2, Admits: 1},
		{Blocks: 2, Restores: 1, Admits: 1},
		{Blocks: 2, Fences: 1, Removes: 1},
		{Blocks: 2, Lapses: 2, Leased: true},
		{Blocks: 2, Fences: 1, Lapses: 1, Leased: true},
		{Blocks: 2, Lapses: 1, Crashes: 1, Leased: true},
		{Blocks: 2, Lapses: 1, Removes: 1, Leased: true},
		{Blocks: 1, Lapses: 2, Admits: 2, Removes: 2, Leased: true},
		{Blocks: 1, Fences: 1, Lapses: 1, Admits: 1, Removes: 1, Crashes: 1, Leased: true},
		{Blocks: 2, Fences: 2, Crashes: 1, Singleton: true},
		{Blocks: 2, Lapses: 2, Leaves: 1, Singleton: true, Leased: true},
		{Blocks: 3, Leaves: 1},
		{Blocks: 2, Leaves: 1, Admits: 1, Crashes: 1},
		{Blocks: 4},
	}
}

// walks is how many random walks are taken.
const walks = 300_000
