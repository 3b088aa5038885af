// Tells what Prometheus makes of alerting rules and expressions, for the tests of the chart.
//
// Reads one JSON object from standard input and writes one to standard output. "rules" are evaluated over
// "series" minute by minute by Prometheus' own query engine, templates and all; which alerts fire at which of the
// minutes "at" is told. Of each of "expressions" it is told which metrics and labels it names. (Prometheus' package
// of rules does the same, but takes the clouds' SDKs along, and minutes to compile.)
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type series struct {
	Labels map[string]string `json:"labels"`
	// One value a minute; null: the series is gone.
	Values []*float64 `json:"values"`
}

type question struct {
	// When minute 0 is, in seconds since 1970.
	Start       int64    `json:"start"`
	Rules       []rule   `json:"rules"`
	Series      []series `json:"series"`
	At          []int    `json:"at"`
	Expressions []string `json:"expressions"`
}

type alert struct {
	Minute      int               `json:"minute"`
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type named struct {
	// The labels that each metric is selected by.
	Metrics map[string][]string `json:"metrics"`
	// The labels that aggregations and joins use.
	Labels []string `json:"labels"`
}

type answer struct {
	Alerts      []alert `json:"alerts"`
	Expressions []named `json:"expressions"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	given := answer{Alerts: []alert{}, Expressions: []named{}}
	for _, text := range asked.Expressions {
		expression, err := parser.ParseExpr(text)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		given.Expressions = append(given.Expressions, names(expression))
	}
	player := player{
		engine: promql.NewEngine(promql.EngineOpts{
			MaxSamples: 1_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		}),
		store: memory(asked.Series, asked.Start),
		start: asked.Start,
	}
	for _, one := range asked.Rules {
		alerts, err := player.play(one, asked.At)
		if err != nil {
			return fmt.Errorf("%s: %w", one.Alert, err)
		}
		given.Alerts = append(given.Alerts, alerts...)
	}
	return json.NewEncoder(os.Stdout).Encode(given)
}

func names(expression parser.Expr) named {
	found := named{Metrics: map[string][]string{}, Labels: []string{}}
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		switch one := node.(type) {
		case *parser.VectorSelector:
			by := found.Metrics[one.Name]
			for _, matcher := range one.LabelMatchers {
				if matcher.Name != model.MetricNameLabel {
					by = append(by, matcher.Name)
				}
			}
			found.Metrics[one.Name] = append([]string{}, by...)
		case *parser.AggregateExpr:
			found.Labels = append(found.Labels, one.Grouping...)
		case *parser.BinaryExpr:
			if one.VectorMatching != nil {
				found.Labels = append(found.Labels, one.VectorMatching.MatchingLabels...)
				found.Labels = append(found.Labels, one.VectorMatching.Include...)
			}
		}
		return nil
	})
	return found
}

// memory is a storage of these series.
func memory(given []series, start int64) storage.Queryable {
	entries := make([]*storage.SeriesEntry, 0, len(given))
	for _, one := range given {
		samples := make([]chunks.Sample, 0, len(one.Values))
		for minute, at := range one.Values {
			// As a scrape that doesn't find the series any more marks it.
			number := float64FromBits(value.StaleNaN)
			if at != nil {
				number = *at
			}
			samples = append(samples, sample{(start + int64(minute)*60) * 1000, number})
		}
		entries = append(entries, storage.NewListSeries(labels.FromMap(one.Labels), samples))
	}
	sort.Slice(entries, func(a, b int) bool { return labels.Compare(entries[a].Lset, entries[b].Lset) < 0 })
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{
		SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
			found := &set{at: -1}
			for _, entry := range entries {
				if matches(entry.Lset, matchers) {
					found.entries = append(found.entries, entry)
				}
			}
			return found
		},
	}}
}

func matches(set labels.Labels, matchers []*labels.Matcher) bool {
	for _, matcher := range matchers {
		if !matcher.Matches(set.Get(matcher.Name)) {
			return false
		}
	}
	return true
}

type player struct {
	engine *promql.Engine
	store  storage.Queryable
	start  int64
}

func (p player) query(ctx context.Context, text string, at time.Time) (promql.Vector, error) {
	query, err := p.engine.NewInstantQuery(ctx, p.store, nil, text, at)
	if err != nil {
		return nil, err
	}
	defer query.Close()
	result := query.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Vector()
}

// play evaluates a rule every minute, and tells what fires at the minutes asked for.
func (p player) play(one rule, at []int) ([]alert, error) {
	holds, err := model.ParseDuration(strings.TrimSpace(one.For))
	if one.For != "" && err != nil {
		return nil, err
	}
	wanted, last := map[int]bool{}, 0
	for _, minute := range at {
		wanted[minute] = true
		last = max(last, minute)
	}
	found, since := []alert{}, map[uint64]int{}
	for minute := 0; minute <= last; minute++ {
		now := time.Unix(p.start+int64(minute)*60, 0).UTC()
		vector, err := p.query(context.Background(), one.Expr, now)
		if err != nil {
			return nil, err
		}
		active := map[uint64]int{}
		for _, hit := range vector {
			key := hit.Metric.Hash()
			if _, known := active[key]; known {
				return nil, fmt.Errorf("two alerts with the same labels: %s", hit.Metric)
			}
			active[key] = minute
			if began, known := since[key]; known {
				active[key] = began
			}
			if !wanted[minute] || minute-active[key] < int(time.Duration(holds)/time.Minute) {
				continue
			}
			told, err := p.tell(one, hit, now)
			if err != nil {
				return nil, err
			}
			told.Minute = minute
			found = append(found, told)
		}
		since = active
	}
	return found, nil
}

func (p player) tell(one rule, hit promql.Sample, now time.Time) (alert, error) {
	told := alert{Name: one.Alert, Labels: map[string]string{}, Annotations: map[string]string{}}
	hit.Metric.Range(func(label labels.Label) {
		if label.Name != model.MetricNameLabel {
			told.Labels[label.Name] = label.Value
		}
	})
	data := template.AlertTemplateData(hit.Metric.Map(), nil, "", hit)
	expand := func(text string) (string, error) {
		return template.NewTemplateExpander(
			context.Background(), "{{$labels := .Labels}}{{$value := .Value}}"+text, one.Alert, data,
			model.TimeFromUnix(now.Unix()),
			func(ctx context.Context, text string, at time.Time) (promql.Vector, error) {
				return p.query(ctx, text, at)
			},
			&url.URL{}, nil,
		).Expand()
	}
	for from, to := range map[*map[string]string]map[string]string{&one.Labels: told.Labels, &one.Annotations: told.Annotations} {
		for name, text := range *from {
			written, err := expand(text)
			if err != nil {
				return told, err
			}
			to[name] = written
		}
	}
	return told, nil
}
