package main_test

// Takes the place of cmd/go's proxy_test.go. The fixtures are served by the original file, in a
// process of its own; here is only a router, so that each special path of the original
// ($GOPROXY/404, $GOPROXY/sumdb-503) has a tenant, or a server, of its own.
//
// GOSCRIPTS_ROUTES is a JSON object: special path to base URL, "" for all other paths. Example:
// {"": "http://127.0.0.1:8080/goproxy/plain", "404": "http://127.0.0.1:8080/goproxy/s404"}.
// GOSCRIPTS_VKEY is the verifier key of the original's checksum database.

import (
	"encoding/json"
	"flag"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
)

var (
	proxyAddr            = flag.String("proxy", "", "not for use: the original serves the fixtures")
	proxyURL             string
	testSumDBVerifierKey = os.Getenv("GOSCRIPTS_VKEY")
	testSumDBName, _, _  = strings.Cut(testSumDBVerifierKey, "+")

	startOnce sync.Once
)

// StartProxy starts the router and sets proxyURL. Later calls do nothing.
func StartProxy() {
	startOnce.Do(func() {
		routes := map[string]string{}
		if err := json.Unmarshal([]byte(os.Getenv("GOSCRIPTS_ROUTES")), &routes); err != nil {
			log.Fatalf("GOSCRIPTS_ROUTES: %v", err)
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		proxyURL = "http://" + listener.Addr().String() + "/mod"
		router := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			special := specialOf(routes, strings.TrimPrefix(r.In.URL.Path, "/mod/"))
			base, err := url.Parse(routes[special])
			if err != nil {
				log.Fatal(err)
			}
			prefix := strings.TrimSuffix("/mod/"+special, "/")
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = base.Scheme, base.Host, base.Host
			r.Out.URL.Path = base.Path + strings.TrimPrefix(r.In.URL.Path, prefix)
			r.Out.URL.RawPath = ""
			if raw := r.In.URL.RawPath; raw != "" {
				r.Out.URL.RawPath = base.Path + strings.TrimPrefix(raw, prefix)
			}
		}}
		go func() { log.Fatal(http.Serve(listener, router)) }()
	})
}

// specialOf returns the key of routes that the path begins with, "" if there is none.
func specialOf(routes map[string]string, path string) string {
	for special := range routes {
		if special != "" && strings.HasPrefix(path, special+"/") {
			return special
		}
	}
	return ""
}
