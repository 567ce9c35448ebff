// The commands of Kubernetes' test program agnhost that cyclonus' pods call: a server that says its host name, and a client.
// The whole of agnhost is many times as large, and a table of cyclonus starts it 324 times.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubernetes/test/images/agnhost/connect"
	servehostname "k8s.io/kubernetes/test/images/agnhost/serve-hostname"
)

// How long a client may take with everything. Its own --timeout is for the connection alone: without a way to the name
// service it asks for 40 s (four names, twice, 5 s each), which makes five minutes of a table in which one pod has none.
const connectDeadline = 8 * time.Second

func main() {
	connect.CmdConnect.PreRun = func(*cobra.Command, []string) {
		time.AfterFunc(connectDeadline, func() {
			fmt.Fprintf(os.Stderr, "TIMEOUT: nothing after %s\n", connectDeadline)
			os.Exit(1)
		})
	}
	root := &cobra.Command{Use: "agnhost"}
	root.AddCommand(connect.CmdConnect, servehostname.CmdServeHostname)
	if root.Execute() != nil {
		os.Exit(1)
	}
}
