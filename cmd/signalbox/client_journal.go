package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newBackupCommand(std stdio) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Copy a running gateway's journal to FILE", Args: cobra.ExactArgs(1),
		Long: "Copies a consistent journal while the gateway goes on. It has no private keys. FILE appears as a whole or not\n" +
			"at all. --gateway says whose journal; else it is that of the first gateway that answers.",
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE")
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		n, err := backupTo(ctx, c, args[0], force)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.out, "%s: %d bytes\n", args[0], n)
		return err
	})
	return cmd
}

// backupTo writes beside the file first: half a backup must not look like one.
func backupTo(ctx context.Context, c *client.Client, path string, force bool) (n int64, err error) {
	if _, err := os.Stat(path); !force && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("back up journal: %w: %s is there already: give another name, or --force", signalbox.ErrInvalid, path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("back up journal: %w", err)
	}
	defer os.Remove(file.Name()) // gone already when all went well
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	if n, err = c.Backup(ctx, w); err != nil {
		return 0, err
	}
	if err := errors.Join(w.Flush(), file.Sync(), file.Close()); err != nil {
		return 0, fmt.Errorf("back up journal: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return 0, fmt.Errorf("back up journal: %w", err)
	}
	return n, nil
}
