// report IN OUT: reads orders, a JSON file, and writes what each customer bought, most first. Says how much it read, with
// its SHA-256. The same program is there in other languages.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

type order struct {
	Customer string
	Count    uint64
	Cents    uint64
}

type bought struct {
	Cents    uint64 `json:"cents"`
	Customer string `json:"customer"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: report IN OUT")
		os.Exit(1)
	}
	bytes, err := os.ReadFile(os.Args[1])
	check(err)
	var orders []order
	check(json.Unmarshal(bytes, &orders))

	cents := map[string]uint64{}
	for _, order := range orders {
		cents[order.Customer] += order.Count * order.Cents
	}
	report := []bought{}
	for name, cents := range cents {
		report = append(report, bought{cents, name})
	}
	sort.Slice(report, func(i, j int) bool {
		a, b := report[i], report[j]
		return a.Cents > b.Cents || a.Cents == b.Cents && a.Customer < b.Customer
	})
	written, err := json.Marshal(report)
	check(err)
	check(os.WriteFile(os.Args[2], append(written, '\n'), 0o666))

	fmt.Printf("%d orders, sha256 %x\n", len(orders), sha256.Sum256(bytes))
	for _, line := range report {
		fmt.Printf("%-12s%12s\n", line.Customer, fmt.Sprintf("%d.%02d", line.Cents/100, line.Cents%100))
	}
}
