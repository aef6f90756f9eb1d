package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func newAccount() *authv1.CreateAccountRequest {
	return &authv1.CreateAccountRequest{
		AccountId: "acme", DisplayName: "  Acme Ltd ",
		Owner: &authv1.CreateAccountRequest_Owner{
			Email: "Olga@Example.com", DisplayName: "Olga Owner", Password: goodPassword,
		},
	}
}

func TestCreateAccount_withItsOwnerAndPolicy(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		made, err := p.accounts().CreateAccount(asOperator(t.Context()), newAccount())
		require.NoError(t, err)
		account := made.GetAccount()
		require.Equal(t, "accounts/acme", account.GetName())
		require.Equal(t, "Acme Ltd", account.GetDisplayName())
		require.WithinDuration(t, time.Now(), account.GetCreateTime().AsTime(), time.Minute)
		require.True(t, s.policies.has("acme"))

		owner := p.get(account.GetOwner())
		require.Equal(t, "Olga@example.com", owner.GetEmail())
		require.Equal(t, authv1.Agent_OWNER, owner.GetRole())
		require.Equal(t, authv1.Agent_ACTIVE, owner.GetState())
		require.Equal(t, authv1.Agent_NOT_SET_UP, owner.GetMfaState())
		require.Equal(t, "Two-Factor Authentication not setup", owner.GetMfaStatusMessage())
		require.Equal(t, int64(1), owner.GetVersion())
		require.NotEmpty(t, owner.GetEtag())
		require.Nil(t, owner.GetLastSignInTime())

		var hash string
		require.NoError(t, s.db.QueryRow(t.Context(), `SELECT hash FROM passwords`).Scan(&hash))
		require.Contains(t, hash, "$argon2id$")

		// Its people and the suite may see it.
		got, err := p.accounts().GetAccount(as(t.Context(), owner), &authv1.GetAccountRequest{Name: "accounts/acme"})
		require.NoError(t, err)
		requireSame(t, account, got.GetAccount())
		got, err = authv1.NewAccountServiceClient(p.conn("notifier")).GetAccount(t.Context(), &authv1.GetAccountRequest{Name: "accounts/acme"})
		require.NoError(t, err)
		requireSame(t, account, got.GetAccount())
	})
}

func TestCreateAccount_ownerWithoutPassword_isInvited(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	require.Equal(t, authv1.Agent_INVITED, owner.GetState())
	require.Zero(t, p.s.number(`SELECT count(*) FROM passwords`))
}

func TestCreateAccount_repeated(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		ctx := asOperator(t.Context())
		req := newAccount()
		req.RequestId = "r1"
		first, err := p.accounts().CreateAccount(ctx, req)
		require.NoError(t, err)
		again, err := p.accounts().CreateAccount(ctx, req)
		require.NoError(t, err)
		requireSame(t, first, again)

		// The same id with another password is another request, though neither is
		// stored in a way that shows it.
		req.Owner.Password = "another password"
		_, err = p.accounts().CreateAccount(ctx, req)
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonRequestIDReused)
		req.AccountId = "globex"
		_, err = p.accounts().CreateAccount(ctx, req)
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonRequestIDReused)

		_, err = p.accounts().CreateAccount(ctx, newAccount())
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonAccountExists)
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM accounts`))
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM agents`))
		var fingerprint []byte
		require.NoError(t, s.db.QueryRow(t.Context(), `SELECT fingerprint FROM request_ids`).Scan(&fingerprint))
		require.False(t, s.keys.Outdated(fingerprint), "keyed")
	})
}

func TestCreateAccount_inParallel_oneIsMade(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		made, refused := inParallel(8, func(int) error {
			req := newAccount()
			req.Owner.Password = ""
			_, err := p.accounts().CreateAccount(asOperator(t.Context()), req)
			return err
		})
		require.Equal(t, 1, made)
		for _, err := range refused {
			testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonAccountExists)
		}
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM agents`))
	})
}

// A client that repeats before the first answer arrives.
func TestCreateAccount_oneRequestInParallel_allGetTheAccount(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owners := make(chan string, 6)
		_, refused := inParallel(6, func(int) error {
			req := newAccount()
			req.Owner.Password, req.RequestId = "", "r1"
			made, err := p.accounts().CreateAccount(asOperator(t.Context()), req)
			owners <- made.GetAccount().GetOwner()
			return err
		})
		require.Empty(t, refused)
		first := <-owners
		for range 5 {
			require.Equal(t, first, <-owners)
		}
	})
}

// An account without a policy could not be decided about.
func TestCreateAccount_policyServiceDown_makesNothing(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	s.policies.switchOff(true)
	req := newAccount()
	req.RequestId = "r1"
	_, err := p.accounts().CreateAccount(asOperator(t.Context()), req)
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.Zero(t, s.number(`SELECT count(*) FROM accounts`))
	s.policies.switchOff(false)
	_, err = p.accounts().CreateAccount(asOperator(t.Context()), req)
	require.NoError(t, err)
}

func TestCreateAccount_refused(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	for name, test := range map[string]struct {
		change func(*authv1.CreateAccountRequest)
		reason string
	}{
		"account id":     {func(r *authv1.CreateAccountRequest) { r.AccountId = "Acme" }, errs.ReasonInvalidField},
		"no owner":       {func(r *authv1.CreateAccountRequest) { r.Owner = nil }, errs.ReasonInvalidField},
		"display name":   {func(r *authv1.CreateAccountRequest) { r.DisplayName = "Acme\nLtd" }, errs.ReasonInvalidField},
		"owner's name":   {func(r *authv1.CreateAccountRequest) { r.Owner.DisplayName = " " }, errs.ReasonInvalidField},
		"request id":     {func(r *authv1.CreateAccountRequest) { r.RequestId = "a\x00b" }, errs.ReasonInvalidField},
		"address":        {func(r *authv1.CreateAccountRequest) { r.Owner.Email = "olga" }, errs.ReasonEmailInvalid},
		"short password": {func(r *authv1.CreateAccountRequest) { r.Owner.Password = "1234567" }, errs.ReasonPasswordUnacceptable},
	} {
		t.Run(name, func(t *testing.T) {
			req := newAccount()
			test.change(req)
			_, err := p.accounts().CreateAccount(asOperator(t.Context()), req)
			testkit.RequireError(t, err, codes.InvalidArgument, test.reason)
			require.NotContains(t, err.Error(), "1234567")
		})
	}
	require.Zero(t, p.s.number(`SELECT count(*) FROM accounts`))
}

func TestCreateAccount_onlyByTheOperator(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	req := newAccount()
	req.AccountId = "globex"
	_, err := p.accounts().CreateAccount(as(t.Context(), owner), req)
	testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	_, err = p.accounts().CreateAccount(t.Context(), req)
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonCredentialsMissing)
}

// What is not there and what is not the caller's are one answer.
func TestGetAccount_ofAnother_isLikeUnknown(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	p.account("acme")
	stranger := p.account("globex")
	var answers []string
	for _, name := range []string{"accounts/acme", "accounts/nobody", "accounts/NOBODY"} {
		_, err := p.accounts().GetAccount(as(t.Context(), stranger), &authv1.GetAccountRequest{Name: name})
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		answers = append(answers, err.Error())
	}
	require.Equal(t, answers[0], answers[1])
	require.Equal(t, answers[0], answers[2])
	_, err := p.accounts().GetAccount(asOperator(t.Context()), &authv1.GetAccountRequest{Name: "accounts/nobody"})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	_, err = p.accounts().GetAccount(asOperator(t.Context()), &authv1.GetAccountRequest{Name: "acme"})
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
}

// inParallel runs n calls that begin together, and returns how many succeeded
// and how the others failed.
func inParallel(n int, call func(i int) error) (succeeded int, failures []error) {
	begin, results := make(chan struct{}), make(chan error, n)
	for i := range n {
		go func() {
			<-begin
			results <- call(i)
		}()
	}
	close(begin)
	for range n {
		if err := <-results; err != nil {
			failures = append(failures, err)
		} else {
			succeeded++
		}
	}
	return succeeded, failures
}
