# The parts of make.py that Perl does: perl make.pl PART STORY.json TARGET
use strict;
use warnings;
use JSON::PP;
use Encode;
use OLE::Storage_Lite;

my ($part, $source, $target) = @ARGV;
my $story = decode_json(do { local (@ARGV, $/) = $source; <> });

sub stream { OLE::Storage_Lite::PPS::File->new(encode("UTF-16LE", $_[0]), $_[1]) }

if ($part eq "msg") {
    # As Outlook writes it in an eight-bit code page.
    my %texts = (
        "001A" => "IPM.Note", "0037" => "Boarding rules",
        "1000" => encode("cp1252", "$story->{VEHICLES}\r\n\r\n$story->{BICYCLES}\r\n\r\n$story->{UMLAUTS}"),
        "0C1A" => "Purser", "0C1F" => "purser\@ferry.example", "0E04" => "crew\@ferry.example",
    );
    my $properties = pack("x8 V V V V x8", 0, 0, 0, 0);
    $properties .= pack("V V V V", 0x3FDE0003, 6, 1252, 0);
    my @streams;
    for my $id (sort keys %texts) {
        $properties .= pack("V V V V", hex("${id}001E"), 6, length($texts{$id}) + 1, 0);
        push @streams, stream("__substg1.0_${id}001E", $texts{$id});
    }
    my @names = map { stream("__substg1.0_$_", "") } qw(00020102 00030102 00040102);
    my $nameid = OLE::Storage_Lite::PPS::Dir->new(encode("UTF-16LE", "__nameid_version1.0"), undef, undef, \@names);
    my @date = (0, 0, 0, 1, 3, 126);
    my $root = OLE::Storage_Lite::PPS::Root->new(\@date, \@date, [$nameid, @streams, stream("__properties_version1.0", $properties)]);
    $root->save($target);
} elsif ($part eq "xls") {
    require Spreadsheet::WriteExcel;
    my $book = Spreadsheet::WriteExcel->new($target);
    my $sheet = $book->add_worksheet("Fuel");
    my $row = 2;
    for my $values (@{ $story->{FUEL} }) { $sheet->write($row, 1, $values); $row++; }
    my $crew = $book->add_worksheet("Crew");
    $crew->write(0, 0, ["Name", "Note"]);
    $crew->write(1, 0, ["Ada", $story->{JACKETS}]);
    $book->close();
}
