package story

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Options says where the suite is and how to play.
type Options struct {
	// BaseURL is where REST is. The story goes through this door unless Connect is set.
	BaseURL string
	// Connect, when set, makes the story go through gRPC.
	Connect Connect
	// OperatorToken is the platform team's.
	OperatorToken string
	// Mail returns the mails that arrived for an address, oldest first.
	Mail MailReader
	// Grace is the grace period: how long the sessions of those who were told
	// live on. What happens in between takes some seconds.
	Grace time.Duration
	// Out gets the story as it goes; nil for nothing.
	Out io.Writer
	// Now is the clock of the people in the story.
	Now func() time.Time
}

// Validate says what is missing.
func (o Options) validate() error {
	switch {
	case o.BaseURL == "" && o.Connect == nil:
		return errors.New("story: neither BaseURL nor Connect says where the suite is")
	case o.OperatorToken == "", o.Mail == nil, o.Now == nil:
		return errors.New("story: OperatorToken, Mail and Now are needed")
	case o.Grace < time.Second:
		return errors.New("story: the grace period is too short to tell before from after")
	}
	return nil
}

// Play plays the story once, and returns the first difference between what the
// product promises and what happened.
func Play(ctx context.Context, o Options) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	p := newPlay(ctx, o)
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case difference:
			err = fmt.Errorf("story, step %d (%s): %w", p.steps, p.sentence, failure.error)
		default:
			panic(failure)
		}
	}()
	for _, act := range []func(){
		p.makeTheAccount, p.workWithoutEnforcement, p.setUpUnasked, p.switchOn, p.tellThoseWithout,
		p.setUpAtSignIn, p.seeWhoIsMissing, p.endSessions, p.setUpAfterTheDeadline,
		p.keepTheLastFactor, p.reset, p.useRecoveryCodes, p.switchOff, p.noMail,
	} {
		act()
	}
	return nil
}

// play is one play of the story.
type play struct {
	Options
	ctx    context.Context //nolint:containedctx // a play is one call
	client client

	steps    int
	sentence string

	account, displayName               string
	olivia, adam, emil, ann, ben, cleo *person
	rival                              *person
	otherAccount                       string
	policy                             Policy
	notSetUpThen                       int
}

// person is one of the people in the story.
type person struct {
	name         string // resource name of the agent
	email        string
	displayName  string
	role         string
	password     string
	passwordHash string

	app      *authenticator
	recovery []string
	devices  []*device
	mails    []string // kinds of the mails received so far, in order
}

// device is something somebody is signed in on.
type device struct {
	owner *person
	kind  string
	keep  bool
	level string
	token string
}

func newPlay(ctx context.Context, o Options) *play {
	p := &play{Options: o, ctx: ctx, displayName: "Story & Sons"}
	p.client.door = restDoor{base: strings.TrimSuffix(o.BaseURL, "/"), client: &http.Client{}}
	if o.Connect != nil {
		p.client.door = grpcDoor{connect: o.Connect}
	}
	p.account = "story-" + strings.ToLower(rand.Text()[:10])
	p.otherAccount = "rival-" + strings.ToLower(rand.Text()[:10])
	in := func(account, name, family, role string) *person {
		return &person{
			email: strings.ToLower(name) + "@" + account + ".example", displayName: name + " " + family,
			role: role, password: "a password of " + name,
		}
	}
	p.olivia = in(p.account, "Olivia", "Owner", "OWNER")
	p.adam = in(p.account, "Adam", "Admin", "ADMIN")
	p.emil = in(p.account, "Emil", "Early", "AGENT")
	p.ann = in(p.account, "Ann", "Agent", "AGENT")
	p.ben = in(p.account, "Ben", "Busy", "AGENT")
	p.cleo = in(p.account, "Cleo", "Clover", "AGENT")
	p.rival = in(p.otherAccount, "Rita", "Rival", "OWNER")
	// Cleo comes from another system, with a bcrypt hash.
	p.cleo.password, p.cleo.passwordHash = "cleo's password of old", oldHash
	return p
}

// everybody in the account.
func (p *play) everybody() []*person {
	return []*person{p.olivia, p.adam, p.emil, p.ann, p.ben, p.cleo}
}

// without returns those who have no second factor now.
func (p *play) without() (people []*person) {
	for _, someone := range p.everybody() {
		if someone.app == nil {
			people = append(people, someone)
		}
	}
	return people
}

// devicesAt returns the devices whose sessions are live at an assurance level.
func (p *play) devicesAt(level string) (devices []*device) {
	for _, someone := range p.everybody() {
		for _, d := range someone.devices {
			if d.level == level {
				devices = append(devices, d)
			}
		}
	}
	return devices
}
