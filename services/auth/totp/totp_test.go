package totp_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238 with SHA-1 is what is tested
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/twofold-auth/twofold/services/auth/totp"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// rfcSecret is the secret of both RFCs' test vectors.
var rfcSecret = totp.Secret("12345678901234567890")

// hotp is the arithmetic of RFC 4226 again, written from the RFC and sharing
// nothing with the code under test. Not reduced to digits.
func hotp(secret totp.Secret, counter int64) uint32 {
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, counter)
	sum := mac.Sum(nil)
	return binary.BigEndian.Uint32(sum[sum[19]&15:]) & 0x7fffffff
}

func codeAt(t require.TestingT, secret totp.Secret, step int64) totp.Code {
	return parse(t, fmt.Sprintf("%06d", hotp(secret, step)%1_000_000))
}

func parse(t require.TestingT, digits string) totp.Code {
	code, err := totp.ParseCode(digits)
	require.NoError(t, err)
	return code
}

// at returns the first moment of a step.
func at(step int64) time.Time { return time.Unix(step*30, 0) }

// RFC 4226, appendix D: the first ten codes of the secret.
func TestMatch_vectorsOfRFC4226(t *testing.T) {
	for step, digits := range []string{
		"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489",
	} {
		got, err := totp.Match(rfcSecret, parse(t, digits), at(int64(step)), totp.NoStep)
		require.NoError(t, err, "step %d", step)
		require.Equal(t, int64(step), got)
	}
}

// RFC 6238, appendix B, SHA-1: eight digits there, of which we use the last six.
func TestMatch_vectorsOfRFC6238(t *testing.T) {
	for unix, digits := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471",
		1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		require.Equal(t, digits, fmt.Sprintf("%08d", hotp(rfcSecret, unix/30)%100_000_000), "the tests' own arithmetic")
		got, err := totp.Match(rfcSecret, parse(t, digits[2:]), time.Unix(unix, 0), totp.NoStep)
		require.NoError(t, err, "unix %d", unix)
		require.Equal(t, unix/30, got)
	}
}

func TestMatch_window(t *testing.T) {
	const present = 50_000_000
	for offset, want := range map[int64]error{
		-3: totp.ErrIncorrect, -2: totp.ErrIncorrect, -1: nil, 0: nil, 1: nil, 2: totp.ErrIncorrect, 3: totp.ErrIncorrect,
	} {
		for _, second := range []time.Duration{0, 29*time.Second + 999*time.Millisecond} {
			step, err := totp.Match(rfcSecret, codeAt(t, rfcSecret, present+offset), at(present).Add(second), totp.NoStep)
			require.ErrorIs(t, err, want, "offset %d", offset)
			if want == nil {
				require.Equal(t, present+offset, step)
			}
		}
	}
}

func TestMatch_forwardOnly(t *testing.T) {
	const present = 50_000_000
	for _, c := range []struct {
		last, tried int64
		want        error
	}{
		{present, present, totp.ErrReplayed},
		{present, present - 1, totp.ErrReplayed},
		{present, present + 1, nil},
		{present + 1, present, totp.ErrReplayed},
		{present + 1, present + 1, totp.ErrReplayed},
		{present - 1, present - 1, totp.ErrReplayed},
		{present - 1, present, nil},
		{present - 2, present - 1, nil},
		// Restored from a time ahead: nothing is accepted until time catches up.
		{present + 100, present + 1, totp.ErrReplayed},
		// A wrong code is wrong, whatever was used.
		{present, present + 2, totp.ErrIncorrect},
	} {
		_, err := totp.Match(rfcSecret, codeAt(t, rfcSecret, c.tried), at(present), c.last)
		require.ErrorIs(t, err, c.want, "last %d, tried %d", c.last-present, c.tried-present)
	}
}

// Two neighboring steps of this secret have one code. The fresh code of the
// later step must not be refused because the earlier step was used.
func TestMatch_neighborsShareACode(t *testing.T) {
	for _, c := range []struct {
		first  int64
		unix   int64
		digits string
	}{
		{56188870, 1685666130, "617002"},
		{57766335, 1732990080, "251166"},
	} {
		code, second := parse(t, c.digits), c.first+1
		require.Equal(t, second, totp.Step(time.Unix(c.unix, 0)))

		// Signed in during the first step, and again with the next code.
		step, err := totp.Match(rfcSecret, code, at(c.first), totp.NoStep)
		require.NoError(t, err)
		require.Equal(t, c.first, step)
		step, err = totp.Match(rfcSecret, code, time.Unix(c.unix, 0), step)
		require.NoError(t, err)
		require.Equal(t, second, step)
		_, err = totp.Match(rfcSecret, code, time.Unix(c.unix, 0), step)
		require.ErrorIs(t, err, totp.ErrReplayed)

		// A phone that is a step behind: both of its codes count.
		step, err = totp.Match(rfcSecret, code, at(second), totp.NoStep)
		require.NoError(t, err)
		require.Equal(t, c.first, step)
		step, err = totp.Match(rfcSecret, code, at(second+1), step)
		require.NoError(t, err)
		require.Equal(t, second, step)
	}
}

// For any secret, time, history and code: accepted exactly when some step of
// the window after the last one has the code, and the step told is such a one.
func TestMatch_againstTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := totp.Secret(rapid.SliceOfN(rapid.Byte(), 20, 64).Draw(t, "secret"))
		unix := rapid.Int64Range(0, 1<<35).Draw(t, "unix")
		present := unix / 30
		last := present + rapid.Int64Range(-4, 4).Draw(t, "last")
		tried := max(0, present+rapid.Int64Range(-4, 4).Draw(t, "tried"))
		value := hotp(secret, tried) % 1_000_000

		want, err := int64(-1), totp.ErrIncorrect
		for s := max(0, present-1); s <= present+1; s++ {
			switch {
			case hotp(secret, s)%1_000_000 != value:
			case s > last && want < 0:
				want, err = s, nil
			case want < 0:
				err = totp.ErrReplayed
			}
		}
		step, got := totp.Match(secret, codeAt(t, secret, tried), time.Unix(unix, 0), last)
		require.ErrorIs(t, got, err)
		if err == nil {
			require.Equal(t, want, step)
		}
	})
}

// However often and in whichever order codes are tried, no step counts twice.
func TestMatch_stepsOnlyRise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := totp.Secret(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "secret"))
		last, now := totp.NoStep, rapid.Int64Range(2, 1<<30).Draw(t, "start")
		for range rapid.IntRange(1, 30).Draw(t, "tries") {
			now += rapid.Int64Range(0, 1).Draw(t, "wait")
			code := codeAt(t, secret, now+rapid.Int64Range(-2, 2).Draw(t, "offset"))
			step, err := totp.Match(secret, code, at(now), last)
			if err != nil {
				continue
			}
			require.Greater(t, step, last)
			require.InDelta(t, now, step, 1)
			last = step
		}
	})
}

// An empty secret has perfectly good codes for anybody who thinks of it.
func TestMatch_shortSecret_refused(t *testing.T) {
	for size := range 20 {
		secret := make(totp.Secret, size)
		_, err := totp.Match(secret, codeAt(t, secret, 1000), at(1000), totp.NoStep)
		require.ErrorIs(t, err, totp.ErrWeakSecret, "%d bytes", size)
	}
}

func TestMatch_zeroCode_matchesNothing(t *testing.T) {
	_, err := totp.Match(rfcSecret, totp.Code{}, at(1000), totp.NoStep)
	require.ErrorIs(t, err, totp.ErrIncorrect)
}

func TestMatch_aroundTheEpoch(t *testing.T) {
	_, err := totp.Match(rfcSecret, codeAt(t, rfcSecret, 0), at(0), totp.NoStep)
	require.NoError(t, err)
	for _, unix := range []int64{-1, -30, -31, -1 << 40} {
		_, err := totp.Match(rfcSecret, codeAt(t, rfcSecret, 1), time.Unix(unix, 0), totp.NoStep)
		require.ErrorIs(t, err, totp.ErrIncorrect)
	}
}

func TestParseCode_strict(t *testing.T) {
	for _, s := range []string{"000000", "012345", "999999"} {
		_, err := totp.ParseCode(s)
		require.NoError(t, err)
	}
	for _, s := range []string{
		"", "12345", "1234567", "0123456", " 123456", "123456 ", "123456\n", "\t23456", "123 456", "12345\x00",
		"123456\u00a0", "406058\u3000", "١٢٣٤٥٦", "\uff11\uff12\uff13\uff14\uff15\uff16", "12345\uff16", "\uff11\uff12", "+12345", "-12345", "1e5000", "0x1234", "12345a", "12_345", "12345:", "/12345",
		"١٢٣", "éé12",
	} {
		_, err := totp.ParseCode(s)
		require.Error(t, err, "%q", s)
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		var e *errs.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, errs.ReasonTOTPCodeMalformed, e.Reason())
		if s != "" {
			require.NotContains(t, err.Error(), s, "an error does not repeat what was typed")
		}
	}
}

func FuzzParseCode(f *testing.F) {
	for _, s := range []string{"123456", " 12345", "12345\u3000", "１２", "", "12345\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		digits := len(s) == 6 && strings.Trim(s, "0123456789") == ""
		_, err := totp.ParseCode(s)
		require.Equal(t, digits, err == nil, "%q", s)
	})
}

func TestNewSecret(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s, err := totp.NewSecret(rand.Reader)
		require.NoError(t, err)
		require.Regexp(t, `^[A-Z2-7]{32}$`, s.Base32())
		require.False(t, seen[s.Base32()])
		seen[s.Base32()] = true
	}
	// A source that runs dry must not leave the rest of the secret zero.
	_, err := totp.NewSecret(bytes.NewReader(make([]byte, 19)))
	require.Error(t, err)
}

func TestSecret_printed_staysSecret(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(format, rfcSecret), "1234")
		require.NotContains(t, fmt.Sprintf(format, struct{ S totp.Secret }{rfcSecret}), "1234")
	}
	require.NotContains(t, rfcSecret.LogValue().String(), "1234")
	_, err := json.Marshal(rfcSecret)
	require.Error(t, err)
}
