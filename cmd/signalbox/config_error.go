package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// A positionError says where in a file something is wrong and what was
// expected there; the line is shown.
type positionError struct {
	file string
	// line and column count from 1; 0 is the file as a whole.
	line, column int
	message      string
	source       string
}

func (e *positionError) Error() string {
	if e.line == 0 {
		return e.file + ": " + e.message
	}
	out := fmt.Sprintf("%s:%d:%d: %s", e.file, e.line, e.column, e.message)
	if e.source == "" {
		return out
	}
	margin := fmt.Sprintf("%5d | ", e.line)
	return fmt.Sprintf("%s\n%s%s\n%s%s^", out, margin, e.source,
		strings.Repeat(" ", len(margin)-2)+"| ", strings.Repeat(" ", max(e.column-1, 0)))
}

// maxSourceLine is how much of a line is shown, in bytes.
const maxSourceLine = 160

// in completes an error with its file and the line it is on.
func (e *positionError) in(file string, data []byte) *positionError {
	e.file = file
	lines := strings.Split(string(data), "\n")
	if e.line > 0 && e.line <= len(lines) {
		e.source = strings.TrimRight(strings.ReplaceAll(lines[e.line-1], "\t", " "), "\r ")
		if len(e.source) > maxSourceLine || e.column > maxSourceLine {
			e.source = ""
		}
	}
	return e
}

// fileErrors is everything that is wrong with a file.
type fileErrors []*positionError

func (l fileErrors) Error() string {
	texts := make([]string, len(l))
	for i, e := range l {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}

// positionOf turns an error of the YAML library into one of ours.
func positionOf(err error) *positionError {
	var ours *positionError
	if errors.As(err, &ours) {
		return ours
	}
	var theirs yaml.Error
	if !errors.As(err, &theirs) {
		return &positionError{message: err.Error()}
	}
	out := &positionError{message: yamlMessage(theirs)}
	if tk := theirs.GetToken(); tk != nil && tk.Position != nil {
		out.line, out.column = tk.Position.Line, tk.Position.Column
	}
	return out
}

// yamlMessage says what was expected instead of which Go type did not fit.
func yamlMessage(err yaml.Error) string {
	var mismatch *yaml.TypeError
	var overflow *yaml.OverflowError
	var node *yaml.UnexpectedNodeTypeError
	switch {
	case errors.As(err, &mismatch):
		return "want " + wanted(mismatch.DstType)
	case errors.As(err, &overflow):
		return fmt.Sprintf("number %s is out of range: want %s", overflow.SrcNum, wanted(overflow.DstType))
	case errors.As(err, &node):
		return fmt.Sprintf("found a %s, want a %s", nodeWord(node.Actual), nodeWord(node.Expected))
	}
	return err.GetMessage()
}

func nodeWord(t ast.NodeType) string {
	switch t {
	case ast.MappingType, ast.MappingValueType:
		return "mapping (key: value)"
	case ast.SequenceType:
		return "list"
	}
	return strings.ToLower(t.String())
}

// wanted describes a type to whoever writes the file.
func wanted(t reflect.Type) string {
	if t == nil {
		return "another value"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a mapping (key: value)"
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.Uint16:
		return "a whole number from 0 to 65535"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "another value"
}
