package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/signalbox-io/signalbox"
)

// DependencyOrder sorts names so that each comes after those that it depends on,
// directly or not, and by name where that leaves a choice. after lists for each
// name all that it depends on, sorted. Dependencies on what is no key of depends
// count for nothing. The error wraps ErrInvalid and names a circle.
func DependencyOrder(depends map[string][]string) (order []string, after map[string][]string, err error) {
	after = map[string][]string{}
	var path []string
	var visit func(name string) error
	visit = func(name string) error {
		if at := slices.Index(path, name); at >= 0 {
			return fmt.Errorf("%w: %s depends on itself (%s)", signalbox.ErrInvalid, name, strings.Join(append(path[at:], name), " -> "))
		}
		if _, done := after[name]; done {
			return nil
		}
		path = append(path, name)
		all := map[string]bool{}
		on := slices.Clone(depends[name])
		slices.Sort(on)
		for _, d := range on {
			if _, known := depends[d]; !known {
				continue
			}
			if err := visit(d); err != nil {
				return err
			}
			all[d] = true
			for _, dd := range after[d] {
				all[dd] = true
			}
		}
		path = path[:len(path)-1]
		after[name] = []string{}
		for d := range all {
			after[name] = append(after[name], d)
		}
		slices.Sort(after[name])
		order = append(order, name)
		return nil
	}
	var names []string
	for name := range depends {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, nil, err
		}
	}
	return order, after, nil
}
