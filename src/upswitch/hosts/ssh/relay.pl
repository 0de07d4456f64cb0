#!/usr/bin/perl
# Connects stdin and stdout to a unix socket. ARGV: its path. It prints + when it is connected.
use Socket;
socket(S, PF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un($ARGV[0])) or die "perl: $!\n";
sub put { my ($to, $data) = @_; while (length $data) { my $n = syswrite($to, $data); exit unless $n; substr($data, 0, $n) = "" } }
put(*STDOUT, "+");
while (1) {
  my $r = ""; vec($r, 0, 1) = 1; vec($r, fileno(S), 1) = 1;
  select($r, undef, undef, undef);
  for ([*STDIN, 0, *S], [*S, fileno(S), *STDOUT]) {
    my ($from, $number, $to) = @$_;
    next unless vec($r, $number, 1);
    exit unless sysread($from, my $data, 65536);
    put($to, $data);
  }
}
