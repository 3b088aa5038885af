// Command oracle answers what github.com/robfig/cron/v3 makes of a schedule: the library whose slots
// the CronJob controller fires, so the one that operator/schedule.py has to agree with.
//
// It reads one question a line from stdin, four fields separated by tabs:
//
//	time zone, unix seconds of the start, number of slots, cron text
//
// and answers each with one line: the unix seconds of the slots that follow on the start, separated by
// spaces (fewer than asked for where the library gives up), or "error" where the text is refused, or "back"
// where the library comes to a slot that is not later, or "hangs" where it does not return within hangAfter,
// as happens on days that a zone skips.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Long enough for a field without any value, where the library tries every minute of five years.
const hangAfter = 20 * time.Second

func answer(zone string, start int64, count int, text string) string {
	// The API server checks the bare text, the controller then parses it with the zone in front.
	if _, err := cron.ParseStandard(text); err != nil {
		return "error"
	}
	schedule, err := cron.ParseStandard("TZ=" + zone + " " + text)
	if err != nil {
		return "error"
	}
	slots := make([]string, 0, count)
	slot := time.Unix(start, 0).UTC()
	for range count {
		next := schedule.Next(slot)
		if next.IsZero() {
			break
		}
		if !next.After(slot) {
			return "back"
		}
		slot = next
		slots = append(slots, strconv.FormatInt(slot.Unix(), 10))
	}
	return strings.Join(slots, " ")
}

func main() {
	questions := bufio.NewScanner(os.Stdin)
	answers := bufio.NewWriter(os.Stdout)
	defer answers.Flush()
	for questions.Scan() {
		parts := strings.SplitN(questions.Text(), "\t", 4)
		if len(parts) != 4 {
			fmt.Fprintf(os.Stderr, "not a question: %q\n", questions.Text())
			os.Exit(2)
		}
		start, errStart := strconv.ParseInt(parts[1], 10, 64)
		count, errCount := strconv.Atoi(parts[2])
		if errStart != nil || errCount != nil {
			fmt.Fprintf(os.Stderr, "not a question: %q\n", questions.Text())
			os.Exit(2)
		}
		answered := make(chan string, 1)
		go func() { answered <- answer(parts[0], start, count, parts[3]) }()
		select {
		case line := <-answered:
			fmt.Fprintln(answers, line)
		case <-time.After(hangAfter):
			// The goroutine can't be stopped; it ends with the process.
			fmt.Fprintln(answers, "hangs")
		}
	}
	if err := questions.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
