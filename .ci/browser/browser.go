package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// refreshed is how long the page may take to show something: its own 15 s, and what a browser waits before it tries an
// address again that did not answer.
const refreshed = 45 * time.Second

// state is what the page says.
type state struct {
	Title, Verdict, HTML string
	Now                  map[string]string
	Rejects              map[string]int
	Failures, Troubles   []string
	Partitions           []string
	Lines                int // drawn
}

func (s state) failed(reason string) bool { return slices.Contains(s.Failures, reason) }

const readPage = `(() => {
	const texts = selector => [...document.querySelectorAll(selector)].map(e => e.textContent);
	const text = selector => texts(selector)[0] || '';
	return {
		Title: document.title, Verdict: text('#verdict'), HTML: document.documentElement.outerHTML,
		Now: Object.fromEntries([...document.querySelectorAll('#now div')].map(d => [d.querySelector('dt').textContent, d.querySelector('dd').textContent])),
		Rejects: Object.fromEntries([...document.querySelectorAll('#rejects tbody tr')].map(r => [r.cells[0].textContent, Number(r.cells[1].textContent)])),
		Failures: [...document.querySelectorAll('#failures tbody tr')].map(r => r.cells[1].textContent),
		Troubles: texts('#troubles li'), Partitions: texts('#partitions tbody th'),
		Lines: [...document.querySelectorAll('polyline')].filter(l => l.getAttribute('points').includes(' ') && l.getBBox().width > 0).length,
	};
})()`

// browser is a Chromium with one tab.
type browser struct {
	ctx      context.Context
	end      []context.CancelFunc
	pictures string

	mu   sync.Mutex
	said []string
}

func newBrowser(ctx context.Context, pictures string) (*browser, error) {
	b := &browser{pictures: pictures}
	// Without its sandbox, which root cannot have: it looks at nothing but our own page. As a person's browser does, and one
	// that is driven does not, it tries an address again that did not answer.
	ctx, end := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox,
		chromedp.Flag("enable-automation", false), chromedp.Flag("enable-auto-reload", true))...)
	tab, closeTab := chromedp.NewContext(ctx, chromedp.WithListener(b.listen))
	b.ctx, b.end = tab, []context.CancelFunc{closeTab, end}
	if _, err := chromedp.Call(tab, audits.Enable, cdp.Empty{}); err != nil {
		b.close()
		return nil, fmt.Errorf("start Chromium: %w", err)
	}
	return b, nil
}

func (b *browser) close() {
	for _, end := range b.end {
		end()
	}
}

// listen takes down whatever the browser complains of: console, exceptions, its log (where a violation of the policy goes)
// and its issues.
func (b *browser) listen(event any) {
	said := ""
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		said = fmt.Sprintf("console %s: %v", e.Type, e.Args)
	case *runtime.EventExceptionThrown:
		said = "exception: " + e.ExceptionDetails.Text
	case *log.EventEntryAdded:
		said = fmt.Sprintf("log %s: %s", e.Entry.Level, e.Entry.Text)
	case *audits.EventIssueAdded:
		said = fmt.Sprintf("issue: %s", e.Issue.Code)
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, said)
}

func (b *browser) complaints() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.said) > 0 {
		return fmt.Errorf("the browser complains: %s", strings.Join(b.said, "; "))
	}
	return nil
}

func (b *browser) forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = nil
}

// open is the only time that the page is asked for: from then on it refreshes itself.
func (b *browser) open(address string) error {
	if err := chromedp.Do(b.ctx, chromedp.Navigate(address)); err != nil {
		return fmt.Errorf("open %s: %w", address, err)
	}
	return nil
}

// eval tries again when the page is just being replaced by its successor.
func eval[T any](b *browser, script string) (value T, err error) {
	for range 20 {
		if value, err = chromedp.Run(b.ctx, chromedp.Evaluate[T](script)); err == nil {
			return value, nil
		}
		if wait := b.wait(100 * time.Millisecond); wait != nil {
			return value, wait
		}
	}
	return value, fmt.Errorf("ask the page: %w", err)
}

func (b *browser) wait(d time.Duration) error {
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// await reads the page again and again until it is as wanted, and says at the end why it is not.
func (b *browser) await(wanted func(state) error) (s state, err error) {
	for end := time.Now().Add(refreshed); time.Now().Before(end); {
		if s, err = eval[state](b, readPage); err != nil {
			return s, err
		}
		if err = wanted(s); err == nil {
			return s, nil
		}
		if wait := b.wait(200 * time.Millisecond); wait != nil {
			return s, errors.Join(wait, err)
		}
	}
	return s, err
}

// awaitGone waits until the browser shows its own page in place of ours.
func (b *browser) awaitGone() error {
	for end := time.Now().Add(refreshed); time.Now().Before(end); {
		address, err := eval[string](b, `location.href`)
		if err != nil {
			return err
		}
		if strings.HasPrefix(address, "chrome-error:") {
			return nil
		}
		if wait := b.wait(200 * time.Millisecond); wait != nil {
			return wait
		}
	}
	return errors.New("the page did not refresh itself")
}

// picture is for a person to look at; it proves nothing, so its failure does not matter.
func (b *browser) picture(name string) {
	if png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100)); err == nil {
		_ = os.WriteFile(filepath.Join(b.pictures, name+".png"), png, 0o644)
	}
}

// contrasts are the texts on the page whose colour is too near to that behind it: WCAG 2 wants 4.5 to 1.
const contrasts = `(() => {
	const parts = colour => colour.match(/[\d.]+/g).map(Number);
	const light = colour => {
		const [r, g, b] = parts(colour).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const behind = e => {
		for (; e; e = e.parentElement) {
			const c = parts(getComputedStyle(e).backgroundColor);
			if (c.length == 3 || c[3] > 0) return getComputedStyle(e).backgroundColor;
		}
		return 'rgb(255, 255, 255)';
	};
	const poor = [];
	for (const e of document.body.querySelectorAll('*')) {
		if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
		if (e instanceof SVGElement && e.tagName != 'text') continue;
		const style = getComputedStyle(e);
		const [a, b] = [light(e instanceof SVGElement ? style.fill : style.color), light(behind(e))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(e.tagName + ' ' + e.textContent.slice(0, 40));
	}
	return poor;
})()`

// sight is the page as somebody sees it.
type sight struct {
	Background string
	Wide       int // what it takes, in CSS pixels; more than the window has is scrolled sideways
	Poor       []string
}

func looks(_ *world, b *browser) error {
	seen := make(map[string]sight)
	for _, scheme := range []string{"light", "dark"} {
		for name, width := range map[string]int64{"phone": 400, "desk": 1280} {
			l, err := b.look(scheme, width)
			if err != nil {
				return err
			}
			if l.Wide > int(width) {
				return fmt.Errorf("%s, %s: %d px wide, the window has %d", scheme, name, l.Wide, width)
			}
			if len(l.Poor) > 0 {
				return fmt.Errorf("%s, %s: hard to read: %q", scheme, name, l.Poor)
			}
			b.picture(scheme + "-" + name)
			seen[scheme] = l
		}
	}
	if seen["light"].Background == seen["dark"].Background {
		return fmt.Errorf("light and dark are both %s", seen["light"].Background)
	}
	return b.complaints()
}

func (b *browser) look(scheme string, width int64) (l sight, err error) {
	_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	if err == nil {
		_, err = chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: width, Height: 800, DeviceScaleFactor: 2, Mobile: width < 500})
	}
	if err != nil {
		return l, fmt.Errorf("set the window: %w", err)
	}
	return eval[sight](b, `({Background: getComputedStyle(document.body).backgroundColor,
		Wide: Math.max(document.documentElement.scrollWidth, document.body.scrollWidth), Poor: `+contrasts+`})`)
}

// provoke has the page do what its policy forbids, and wants to hear of it.
func (b *browser) provoke() error {
	const act = `document.body.append(Object.assign(document.createElement('img'), {src: '/nowhere.png'})); document.body.setAttribute('style', 'color: red'); getComputedStyle(document.body).color`
	colour, err := eval[string](b, act)
	if err != nil {
		return err
	}
	if colour == "rgb(255, 0, 0)" {
		return errors.New("a style of somebody else is taken")
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if err := b.complaints(); err != nil && strings.Contains(err.Error(), "Content Security Policy") {
			return nil
		}
		if wait := b.wait(50 * time.Millisecond); wait != nil {
			return wait
		}
	}
	return fmt.Errorf("the browser says nothing of it: %v", b.complaints())
}
