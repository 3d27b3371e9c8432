package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxConfig is the largest configuration file, in bytes.
const MaxConfig = 1 << 20

// A problem is something that only shows when values are seen together. path
// says where, as "services[1].listener.port".
type problem struct {
	path    string
	message string
}

// A checkable configuration says what is wrong with it.
type checkable interface {
	// check finds what can be seen in the file alone.
	check() []problem
}

// loadYAML reads a configuration file strictly into cfg, which holds the
// defaults. What is wrong comes back as a usage error with file, line and
// column, all of it at once where possible.
func loadYAML(path string, cfg checkable) error {
	data, err := readConfig(path)
	if err != nil {
		return err
	}
	return decodeYAML(path, data, cfg)
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("%s: no such file: signalbox config init writes one to start from", path)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("read configuration: %w", err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, usageError{fmt.Errorf("read configuration: %w", err)}
	}
	if len(data) > MaxConfig {
		return nil, usagef("%s: has more than %d bytes", path, MaxConfig)
	}
	return data, nil
}

func decodeYAML(path string, data []byte, cfg checkable) error {
	wrong := func(errs ...*positionError) error {
		for _, e := range errs {
			_ = e.in(path, data) // completes e itself
		}
		slices.SortStableFunc(errs, func(a, b *positionError) int {
			return cmp.Or(a.line-b.line, a.column-b.column, strings.Compare(a.message, b.message))
		})
		return usageError{fileErrors(errs)}
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return wrong(positionOf(err))
	}
	body, bad := onlyDocument(file)
	if bad != nil {
		return wrong(bad)
	}
	if errs := unknownKeys(body, reflect.TypeOf(cfg)); len(errs) > 0 {
		return wrong(errs...)
	}
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.DisallowUnknownField()).Decode(cfg); err != nil {
		return wrong(positionOf(err))
	}
	var errs []*positionError
	for _, p := range cfg.check() {
		errs = append(errs, p.at(body))
	}
	if len(errs) > 0 {
		return wrong(errs...)
	}
	return nil
}

func onlyDocument(file *ast.File) (ast.Node, *positionError) {
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			at := firstToken(doc.Body)
			return nil, &positionError{line: at.line, column: at.column, message: "a second document: want one in a file"}
		}
		body = doc.Body
	}
	if body == nil {
		return nil, &positionError{message: "the file is empty: signalbox config init writes one to start from"}
	}
	return body, nil
}

// at finds where a problem's path stands in the file: the value, or where it is
// missing the mapping that should hold it.
func (p problem) at(body ast.Node) *positionError {
	e := &positionError{message: p.path + ": " + p.message}
	for path := p.path; ; {
		if node := nodeAt(body, path); node != nil {
			position := firstToken(node)
			e.line, e.column = position.line, position.column
			return e
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			top := firstToken(body)
			e.line, e.column = top.line, top.column
			return e
		}
		path = path[:cut]
	}
}

func nodeAt(body ast.Node, path string) ast.Node {
	if path == "" {
		return nil
	}
	query, err := yaml.PathString("$." + path)
	if err != nil {
		return nil
	}
	node, err := query.FilterNode(body)
	if err != nil {
		return nil
	}
	return node
}

type position struct{ line, column int }

// firstToken is where a node begins: for a mapping its first key, not the colon.
func firstToken(node ast.Node) position {
	switch n := node.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return firstToken(n.Values[0])
		}
	case *ast.MappingValueNode:
		return firstToken(n.Key)
	case *ast.SequenceNode:
		if len(n.Values) > 0 {
			return firstToken(n.Values[0])
		}
	}
	at := node.GetToken().Position
	return position{at.Line, at.Column}
}

// unknownKeys finds every key that the type has no field for, and says which
// there are.
func unknownKeys(node ast.Node, t reflect.Type) (errs []*positionError) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		if list, ok := node.(*ast.SequenceNode); ok {
			for _, v := range list.Values {
				errs = append(errs, unknownKeys(v, t.Elem())...)
			}
		}
	case reflect.Struct:
		mapping, ok := node.(ast.MapNode)
		if !ok {
			return nil // the decoder says what is wrong
		}
		fields := yamlFields(t)
		for it := mapping.MapRange(); it.Next(); {
			key := it.Key().GetToken()
			i := slices.IndexFunc(fields, func(f yamlField) bool { return f.name == key.Value })
			if i >= 0 {
				errs = append(errs, unknownKeys(it.Value(), fields[i].Type)...)
				continue
			}
			errs = append(errs, &positionError{
				line: key.Position.Line, column: key.Position.Column,
				message: fmt.Sprintf("unknown key %q: want one of %s", key.Value, fieldNames(fields)),
			})
		}
	}
	return errs
}

// yamlField is a field of a configuration struct under its name in the file.
type yamlField struct {
	name string
	reflect.StructField
}

func yamlFields(t reflect.Type) (fields []yamlField) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if option == "inline" {
			fields = append(fields, yamlFields(f.Type)...)
			continue
		}
		if f.IsExported() && name != "" && name != "-" {
			fields = append(fields, yamlField{name, f})
		}
	}
	return fields
}

func fieldNames(fields []yamlField) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// resolve makes a path of a file absolute from the file's own folder.
func resolve(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}
