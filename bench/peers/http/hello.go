// Answers requests of HTTP with Go's net/http, on one thread.
//
//	go_http 127.0.0.1 8080
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
)

func hello(w http.ResponseWriter, _ *http.Request) {
	w.Write([]byte("hello\n"))
}

func main() {
	runtime.GOMAXPROCS(1)
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Args[1], os.Args[2]))
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on tcp://%s\n", listener.Addr())
	panic(http.Serve(listener, http.HandlerFunc(hello)))
}
